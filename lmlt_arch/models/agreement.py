"""What all processes of a training, and a run before and after a resume, must have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lmlt_arch.errors import LmltError
from lmlt_arch.group import gathered
from lmlt_arch.options.total_batch import known_launch, total_batch

# Groups of processes that a message names.
_NAMED = 4


class DisagreementError(LmltError):
    """Processes that train together hold different things; the message names them."""


def check_agreement(model: Any, current_iter: int) -> None:
    """Compare what each process holds; all of them call this.

    Where gradients are exchanged, nothing else shows that the processes are at different iterations or train
    different weights.

    Args:
        model: a `PluginModel`.
        current_iter: the iteration that this process is at.

    Raises:
        DisagreementError: processes differ; it is raised on all of them, and nothing was written.
    """
    found = gathered({**dict(held(model)), "iteration": current_iter})
    if wrong := [*differences(found)]:
        raise DisagreementError(
            f"the processes of this training do not hold the same: {'; '.join(wrong)}. Fix: give all of them "
            "the same images and checkpoints, and start all of them again by the same line with --auto_resume"
        )


def check_same_images(datasets: Iterable[Any]) -> None:
    """Compare the lengths of validation sets, whose images the processes share; all of them call this.

    Raises:
        DisagreementError: processes differ; it is raised on all of them.
    """
    found = gathered({f"images of {each.opt['name']}": len(each) for each in datasets})
    if wrong := [*differences(found)]:
        raise DisagreementError(
            f"the processes do not have the same validation sets: {'; '.join(wrong)}. Fix: give all machines "
            "the same files"
        )


def differences(found: list[Mapping[str, Any]]) -> Iterator[str]:
    """In what processes differ, and which of them have what.

    Args:
        found: what each process holds, by names; the iteration says more than the rest, so it comes first.
    """
    for name in sorted({name for each in found for name in each}, key=lambda name: name != "iteration"):
        ranks: dict[str, list[int]] = {}
        for rank, each in enumerate(found):
            ranks.setdefault(str(each.get(name)), []).append(rank)
        if len(ranks) > 1:
            groups = [f"{value} on process {in_ranges(of)}" for value, of in ranks.items()]
            more = [f"and {len(groups) - _NAMED} more"] if len(groups) > _NAMED else []
            yield f"{name}: {', '.join([*groups[:_NAMED], *more])}"


def batch_of(opt: Mapping[str, Any]) -> dict[str, int] | None:
    """The batch in total and the number of processes, as a training state keeps them."""
    batch = total_batch(opt, known_launch(opt))
    return None if batch is None else {"total": batch.total, "processes": batch.processes}


def changes_since(kept: Mapping[str, Any], model: Any) -> str:
    """What a resumed run has changed, in one line; '' if nothing.

    Args:
        kept: our entry of the training state.
        model: the `PluginModel` that goes on from it.
    """
    before, now = kept.get("batch"), batch_of(model.opt)
    given_lr = model.opt["train"]["optim_g"]["lr"]
    lr = model.schedulers[0].base_lrs[0] if model.schedulers else given_lr
    parts = []
    if kept and before is None and now and model.shares.divided:
        parts.append(f"a batch of {now['total']} in total; that of the checkpoint is not known")
    if before and now and before["processes"] != now["processes"]:
        many = "process" if now["processes"] == 1 else "processes"
        parts.append(f"{now['processes']} {many} instead of {before['processes']}")
    if before and now and before["total"] != now["total"]:
        parts.append(f"a batch of {now['total']} in total instead of {before['total']}")
        parts.append(
            f"a learning rate of {lr / now['total']:.3g} per image instead of {lr / before['total']:.3g}"
        )
    elif before and parts and now:
        parts.append(f"the batch in total stays {now['total']}")
    if lr != given_lr:
        parts.append(f"the learning rate {lr:g} of the checkpoint, not {given_lr:g} of the options")
    return f"Resuming with {', '.join(parts)}." if parts else ""


def held(model: Any) -> Iterator[tuple[str, Any]]:
    """What a process holds, by names: checksums of tensors, else values.

    Args:
        model: a `PluginModel`.
    """
    yield "number of processes", model.opt["world_size"]
    order = model.train_sampler
    if order is not None:
        yield "samples of an epoch", order.total_size
        yield "samples seen", order.place
    yield "learning rates", [group["lr"] for one in model.optimizers for group in one.param_groups]
    for name in ("net_g", "net_g_ema", "net_d"):
        network = getattr(model, name, None)
        if isinstance(network, nn.Module):
            # Not the buffers: those of rank 0 are DDP's at the next pass.
            yield f"weights of {name}", _checksum(network.parameters())
    for number, optimizer in enumerate(model.optimizers):
        kept = (value for state in optimizer.state.values() for value in state.values())
        yield f"state of optimizer {number}", _checksum(each for each in kept if isinstance(each, Tensor))


def _checksum(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def in_ranges(ranks: list[int]) -> str:
    """Ranks, consecutive ones shortened: 0, 2-5."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
