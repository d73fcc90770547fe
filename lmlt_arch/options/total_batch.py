"""Images per step over all processes, compared with those that the recipe was published with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lmlt_arch.options.looking import section, whole
from lmlt_arch.options.mistakes import NOTE, Mistake

_PLACE = ("datasets", "train", "batch_size_per_gpu")


class Launch(NamedTuple):
    """How a training is started.

    Attributes:
        launched: whether by a launcher, `--launcher pytorch` or `slurm`.
        processes: how many of them there are.
    """

    launched: bool = False
    processes: int = 1

    def __str__(self) -> str:
        return f"a launcher starts {self.processes}" if self.launched else "one process, without a launcher"


class TotalBatch(NamedTuple):
    """Images of one step.

    Attributes:
        per_process: what the loader of a process takes.
        processes: how many there are.
        total: over all of them.
        recipe: what the recipe of the file was published with; None if the file does not give it.
    """

    per_process: int
    processes: int
    total: int
    recipe: int | None

    def __str__(self) -> str:
        many = "process" if self.processes == 1 else "processes"
        text = f"batch: {self.per_process} per process x {self.processes} {many} = {self.total} in total"
        if self.recipe is None:
            return text
        return (
            f"{text}, as in the recipe"
            if self.total == self.recipe
            else f"{text}; the recipe has {self.recipe}"
        )


def launch_of(launcher: str, environment: Mapping[str, str]) -> Launch:
    """How this process was started.

    Args:
        launcher: the value of `--launcher`: none, pytorch or slurm.
        environment: variables in which launchers give the number of processes.
    """
    if launcher == "none":
        return Launch()
    count = environment.get("SLURM_NTASKS" if launcher == "slurm" else "WORLD_SIZE", "1")
    return Launch(launched=True, processes=max(1, int(count)) if count.isdecimal() else 1)


def known_launch(opt: Mapping[str, Any]) -> Launch:
    """How a training was started, if the options come from `parse_options`; else one process of its own."""
    processes = opt.get("world_size")
    return Launch(opt.get("dist") is True, processes if isinstance(processes, int) and processes > 0 else 1)


def total_batch(opt: Mapping[str, Any], *, launched: bool, processes: int) -> TotalBatch | None:
    """The batch that counts; None if the file names none.

    Without a launcher, BasicSR has one process, whose loader takes `batch_size_per_gpu` for each of its GPUs.

    Args:
        opt: the options as they stand in the file. In what `parse_options` returns, `num_gpu` is that of the
            machine, so that the recipe's batch is known from `lmlt: total_batch` only.
        launched: whether a launcher starts the processes.
        processes: how many; one without a launcher.
    """
    each = whole(opt, *_PLACE)
    if each is None:
        return None
    per_process = each if launched else each * max(1, gpus_of_process(opt))
    processes = processes if launched else 1
    return TotalBatch(per_process, processes, per_process * processes, _of_recipe(opt, each))


def batch_notes(opt: Mapping[str, Any], launch: Launch) -> Iterator[Mistake]:
    """A note if the batch in total is not that of the recipe."""
    batch = total_batch(opt, launched=launch.launched, processes=launch.processes)
    if batch is None or batch.recipe in (None, batch.total):
        return
    text = f"makes {batch.total} images a step in {_processes(batch)}, but the recipe has {batch.recipe}: "
    yield Mistake(_PLACE, text + _fixes(batch, whole(opt, *_PLACE) or 1), NOTE)


def _fixes(batch: TotalBatch, each: int) -> str:
    assert batch.recipe is not None
    fixes = []
    if batch.recipe % each == 0:
        count = batch.recipe // each
        fixes.append(f"start {count} by torchrun --nproc_per_node={count} ... --launcher pytorch")
    copies = batch.total // each
    if batch.recipe % copies == 0:
        fixes.append(f"write batch_size_per_gpu: {batch.recipe // copies}")
    fixes.append(f"if it is meant, lmlt: total_batch: {batch.total}")
    return ", or ".join(fixes)


def _processes(batch: TotalBatch) -> str:
    return "one process" if batch.processes == 1 else f"{batch.processes} processes"


def _of_recipe(opt: Mapping[str, Any], each: int) -> int | None:
    given = whole(opt, "lmlt", "total_batch")
    if given is not None or "world_size" in opt:
        return given
    # Official files name the GPUs of the machine for which their batch was chosen.
    gpus = opt.get("num_gpu")
    return each * gpus if isinstance(gpus, int) and not isinstance(gpus, bool) and gpus >= 1 else None


def gpus_of_process(opt: Mapping[str, Any]) -> int:
    """GPUs of one process without a launcher; none on a machine without GPUs."""
    import torch

    given = opt.get("num_gpu")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # What `parse_options` returns knows the machine.
    if given == "auto" or (not there and "dist" not in opt):
        return there
    return given if isinstance(given, int) and not isinstance(given, bool) else 0


class Epoch(NamedTuple):
    """What a process sees in an epoch, and how many of that are a batch."""

    samples: int
    batch: int


def epoch_of(opt: Mapping[str, Any], images: int, launch: Launch) -> Epoch | None:
    """Samples that each process sees in an epoch, and its batch; None if the file does not give them.

    Args:
        opt: the options.
        images: of the training dataset.
        launch: how the training is started.
    """
    batch = total_batch(opt, launched=launch.launched, processes=launch.processes)
    ratio = section(opt, "datasets", "train").get("dataset_enlarge_ratio", 1)
    if batch is None or isinstance(ratio, bool) or not isinstance(ratio, int | float):
        return None
    return Epoch(math.ceil(images * ratio / batch.processes), batch.per_process)
