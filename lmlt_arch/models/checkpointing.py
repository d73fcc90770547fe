"""Activation checkpointing: a block keeps its input, and computes the rest anew in the backward pass."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(network: nn.Module) -> None:
    """Checkpoint each block of a network, in place; names of parameters stay as they are.

    Raises:
        ValueError: it has no blocks; see `repeated_blocks`.
    """
    for block in repeated_blocks(network):
        block.forward = partial(_checkpointed, block.forward)


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network mostly consists of: the first list of modules of one type with half of it.

    Raises:
        ValueError: there is none.
    """
    needed = sum(parameter.numel() for parameter in network.parameters()) / 2
    for module in network.modules():
        if (
            isinstance(module, nn.ModuleList | nn.Sequential)
            and len({type(block) for block in module}) == 1
            and sum(parameter.numel() for parameter in module.parameters()) >= needed
        ):
            return [*module]
    name = type(network).__name__
    raise ValueError(f"train: checkpointing: {name} has no list of blocks: leave it out")


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
