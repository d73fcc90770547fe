"""ESC for ablation, with arguments for what the network fixes."""

from __future__ import annotations

from dataclasses import fields
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import one_of, with_fields_of
from lmlt_arch.archs.common.record import RECORD, keep_record
from lmlt_arch.archs.esc.arguments import ESCArguments, ESCVariantArguments
from lmlt_arch.archs.esc.attention import WindowAttention
from lmlt_arch.archs.esc.blocks import ConvAttn, ESCBlock, SharedKernels
from lmlt_arch.archs.esc.esc import ESC

__all__ = ["BIASES", "RECORD", "ESCVariant"]

# The position bias of attention: the official table, a penalty proportional to the distance, or nothing.
BIASES = ("table", "distance", "none")


class StaticLargeKernel(nn.Module):
    """`LargeKernelConv` without the dynamic kernel."""

    def forward(self, x: Tensor, shared: SharedKernels) -> Tensor:
        """Map (B, pdim, H, W) to the same shape; `shared` is the kernel (pdim, pdim, k, k)."""
        (kernel,) = shared
        return F.conv2d(x, kernel.to(x.dtype), padding=kernel.shape[-1] // 2)


class VariantWindowAttention(WindowAttention):
    """`WindowAttention` without the table of position biases.

    Args:
        dim: channels.
        window_size: side of a window in pixels.
        num_heads: heads; must divide `dim`.
        attn_type: attention backend.
        by_distance: whether the bias is minus the Euclidean distance of query and key times a slope that each
            head learns (after ALiBi, arXiv 2108.12409); otherwise there is none.
    """

    def __init__(
        self, dim: int, window_size: int, num_heads: int, attn_type: str, *, by_distance: bool
    ) -> None:
        self.by_distance = by_distance
        super().__init__(dim, window_size, num_heads, attn_type)

    def _add_bias(self) -> None:
        if self.by_distance:
            self.slopes = nn.Parameter(2.0 ** (-8 * torch.arange(1, self.num_heads + 1) / self.num_heads))

    def _bias(self) -> tuple[Tensor | None, None]:
        return (self.position_bias() if self.by_distance else None), None

    def position_bias(self) -> Tensor:
        """The bias of every query and key by their distance, (heads, w^2, w^2)."""
        axis = torch.arange(self.window_size, device=self.slopes.device)
        places = torch.cartesian_prod(axis, axis).to(self.slopes.dtype)
        return -self.slopes[:, None, None] * (places[:, None] - places).square().sum(-1).sqrt()


class ESCVariant(ESC):
    """ESC (arXiv 2503.06671) with what it fixes as arguments; see `lmlt_arch.archs.ESC` for the others.

    Shapes of weights do not show what is varied: networks with other than the default arguments have a buffer
    `variant`, and a checkpoint of another variant is refused.

    Args: those of `lmlt_arch.archs.esc.arguments.ESCVariantArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(ESCVariantArguments)
    def __init__(self, arguments: ESCVariantArguments) -> None:
        super().__init__(**{field.name: getattr(arguments, field.name) for field in fields(ESCArguments)})
        a, bias = arguments, one_of("bias", arguments.bias, BIASES)
        if (a.dynamic_kernel, bias) != (True, "table"):
            keep_record(self, [int(a.dynamic_kernel), BIASES.index(bias), a.window_size, a.num_heads])
        for block in cast("list[ESCBlock]", self.blocks):
            if bias != "table":
                attention = VariantWindowAttention(
                    a.dim, a.window_size, a.num_heads, a.attn_type, by_distance=bias == "distance"
                )
                block.register_module("attn", attention)
            if not a.dynamic_kernel:
                for layer in cast("list[ConvAttn]", block.pconvs):
                    layer.register_module("plk", StaticLargeKernel())
