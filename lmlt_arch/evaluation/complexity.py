"""Multiply-adds and activations of a network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from lmlt_arch.archs import SRNetwork

_COUNTED = (
    F.linear,
    F.conv1d,
    F.conv2d,
    F.conv3d,
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)


class Complexity(NamedTuple):
    """Operations and numbers for one output image."""

    multiply_adds: int
    activations: int


def complexity(network: nn.Module, scale: int, *, width: int = 1280, height: int = 720) -> Complexity:
    """Multiply-adds and activations for one output image.

    Counted on shapes alone, padding to windows included. Multiply-adds are those of convolutions, linear
    layers and attention, not of element-wise work; activations are the numbers that convolutions and linear
    layers output. Both as usual in the field.

    Args:
        network: maps (B, 3, h, w) to (B, 3, h * scale, w * scale).
        scale: of the network.
        width: output width in pixels; the input is a scale-th of it, rounded up.
        height: output height in pixels.
    """
    shapes_only = copy.deepcopy(network).to("meta").eval()
    if isinstance(shapes_only, SRNetwork):
        # The fused kernels are counted differently from release to release; matrix products are not.
        shapes_only.attn_type = "Naive"
    image = torch.empty(1, 3, -(-height // scale), -(-width // scale), device="meta")
    with FlopCounterMode(display=False) as operations, _OutputCounter() as outputs, torch.no_grad():
        shapes_only(image)
    return Complexity(operations.get_total_flops() // 2, outputs.total)


def multiply_adds(network: SRNetwork, *, width: int = 1280, height: int = 720) -> int:
    """Multiply-adds of one of this package's networks, see `complexity`."""
    return complexity(network, network.upscaling_factor, width=width, height=height).multiply_adds


class _OutputCounter(TorchFunctionMode):
    """Counts the outputs of convolutions and linear layers, whether modules or functions."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **kwargs or {})
        if func in _COUNTED and isinstance(output, Tensor):
            self.total += output.numel()
        return output
