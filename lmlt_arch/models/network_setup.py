"""Setting up a network: weights, memory layout, trained parameters and optimizer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from lmlt_arch.checkpoints.load import load_for_training
from lmlt_arch.group import is_distributed
from lmlt_arch.models.activation_checkpointing import checkpoint_blocks
from lmlt_arch.options import Train
from lmlt_arch.options.registries import optimizers

# The optimizers with fused kernels on CUDA (on a CPU they gain 1 % of a step).
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
# The arguments that choose an implementation.
_IMPLEMENTATIONS = ("fused", "foreach", "capturable", "differentiable")


def use_deterministic_algorithms() -> None:
    """Make PyTorch compute the same numbers twice, where it can."""
    # Read by cuBLAS when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def prepare_network(network: nn.Module, options: Train, *, main: bool, graphs: bool) -> None:
    """Freeze, checkpoint, lay out and compile a network as the options of a training say, in place.

    Where several processes train, its gradients get the strides that DistributedDataParallel expects.

    Args:
        network: on any device.
        options: the section `train`.
        main: whether it is the network that is trained for, the one that `freeze` and `checkpointing` mean.
        graphs: whether the compiled network may run as CUDA graphs.
    """
    if main:
        _freeze(network, options.freeze)
        if options.checkpointing:
            checkpoint_blocks(network)
    if options.channels_last:
        _to_channels_last(network)
    if is_distributed():
        _give_gradients_strides_of_parameters(network)
    if options.compile:
        # In place, so that parameters keep their names in checkpoints. All batches have one size.
        network.compile(dynamic=False, mode="reduce-overhead" if graphs else None)


def load_weights(
    network: nn.Module, path: str, *, key: str | None, strict: bool, average_of: nn.Module | None
) -> None:
    """Load a checkpoint, also one of another scale, and log what was loaded.

    Args:
        network: a bare network.
        path: of the checkpoint.
        key: of the state dict in the file; None for a file that is a state dict.
        strict: whether all names must agree.
        average_of: the network of which `network` is the average. Tensors that the file lacks are taken
            from there.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: the file is damaged, or of another network.
    """
    fresh = load_for_training(network, path, key=key, strict=strict)
    logger = get_root_logger()
    logger.info(f"Loaded {type(network).__name__} from {path}.")
    if fresh and average_of is not None:
        trained = average_of.state_dict()
        network.load_state_dict({name: trained[name] for name in fresh}, strict=False)
    elif fresh:
        logger.warning(f"Not in that checkpoint, starting fresh: {', '.join(fresh)}.")


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float, device: torch.device, **arguments: Any
) -> torch.optim.Optimizer:
    """Make an optimizer of the parameters that are trained.

    Args:
        name: of a class of `torch.optim`.
        parameters: those that are frozen are left out.
        lr: the learning rate.
        device: of the parameters. On CUDA the optimizer is fused unless `arguments` choose otherwise.
        arguments: of the class.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    kind = optimizers()[name]
    if kind in _FUSED and not arguments.keys() & {*_IMPLEMENTATIONS} and device.type == "cuda":
        arguments["fused"] = True
    return kind(trained, lr=lr, **arguments)


def _freeze(network: nn.Module, prefixes: Iterable[str]) -> None:
    """Exclude the parameters below these names from training."""
    for name, parameter in network.named_parameters():
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes):
            parameter.requires_grad_(False)


def _to_channels_last(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _give_gradients_strides_of_parameters(network: nn.Module) -> None:
    """Keep DistributedDataParallel from warning of strides that mean the same.

    Where a size is 1, any stride means the same, and kernels choose for themselves: a depthwise filter
    (C, 1, 3, 3) with strides (9, 9, 3, 1) gets a gradient with (9, 1, 3, 1). The exchange compares strides
    to the letter. Not the parameter gets others: by them PyTorch chooses kernels, which round differently.
    """
    for parameter in network.parameters():
        if parameter.requires_grad and 1 in parameter.shape:
            # Without the parameter, which would hold itself.
            parameter.register_hook(partial(_with_strides, strides=parameter.stride()))


def _with_strides(gradient: Tensor, strides: tuple[int, ...]) -> Tensor | None:
    """The same gradient with other strides of the same meaning; None if there is nothing to change."""
    own = gradient.stride()
    if own == strides or any(
        size != 1 and mine != wanted for size, mine, wanted in zip(gradient.shape, own, strides, strict=True)
    ):
        return None
    return gradient.as_strided(gradient.shape, strides)
