"""Activation checkpointing: a block keeps its input and recomputes the rest in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lmlt_arch.archs.common.blocks import repeated_blocks


def checkpoint_blocks(network: nn.Module) -> None:
    """Checkpoint each block of a network, in place, without changing the names of parameters.

    Raises:
        ValueError: the network has no blocks; see `repeated_blocks`.
    """
    for block in repeated_blocks(network):
        block.forward = partial(_checkpointed, block.forward)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
