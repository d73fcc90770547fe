"""Which implementation runs the blocks of the ESC family: `cuda`, `cpu` or the blocks themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from lmlt_arch.archs.common import fused, kernel_dispatch
from lmlt_arch.archs.common.layers import ChannelNorm
from lmlt_arch.archs.esc import cpu
from lmlt_arch.archs.esc.attention import WindowAttention
from lmlt_arch.archs.esc.blocks import (
    ConvAttn,
    ConvFFN,
    ESCBlock,
    LargeKernelConv,
    SeparableLargeKernelConv,
    SharedKernels,
)

# Of `cuda`, whose convolutions hold all channels of a pixel and the large kernels of four neighbors.
_MOST_CHANNELS = 64
_MOST_LARGE_KERNEL_CHANNELS = 32

# The classes whose function `cpu` and `cuda` compute; subclasses and replaced modules run as written.
_KNOWN = frozenset(
    {ESCBlock, ConvFFN, ConvAttn, LargeKernelConv, SeparableLargeKernelConv, WindowAttention, ChannelNorm}
    | {nn.AdaptiveAvgPool2d, nn.Conv2d, nn.GELU, nn.Identity, nn.ModuleList, nn.Sequential}
)


def run_blocks(blocks: nn.ModuleList, x: Tensor, shared: SharedKernels) -> Tensor:
    """Run the body of a network, fast where that is possible.

    Args:
        blocks: see `make_blocks`.
        x: (B, dim, H, W).
        shared: the weights that all ConvAttn layers share.

    Returns:
        Like `x`.
    """
    typed = cast(Sequence[ESCBlock], blocks)
    attention = {block.attn.attn_type for block in typed}
    wanted = attention in ({"auto"}, {"Triton"})
    if wanted and kernel_dispatch.usable(blocks, x, _KNOWN) and _fit(typed, x):
        # Only where Triton is installed.
        from lmlt_arch.archs.esc import cuda

        first, large = typed[0], tuple(kernel.shape for kernel in shared)
        fast, slow = partial(cuda.run_blocks, typed[:1], shared=shared), partial(first, shared=shared)
        if kernel_dispatch.agree(first, x, fast, slow, side=first.attn.window_size + 5, constants=large):
            return cuda.run_blocks(typed, x, shared)
    if attention == {"auto"} and fused.usable(blocks, x, _KNOWN):
        return cpu.run_blocks(typed, x, shared)
    for block in blocks:
        x = block(x, shared)
    return x


def _fit(blocks: Sequence[ESCBlock], x: Tensor) -> bool:
    """Whether the kernels of `cuda` can hold a pixel's channels, and those of the large kernel."""
    pairs = [pair for block in blocks for pair in block.pairs()]
    pdims = {pconv.pdim for _, _, pconv in pairs}
    if x.shape[1] > _MOST_CHANNELS or len(pdims) > 1 or max(pdims) > _MOST_LARGE_KERNEL_CHANNELS:
        return False
    hidden = [*(ffn for _, ffn, _ in pairs), *(block.proj for block in blocks)]
    # Hidden maps have a pitch of 16 channels.
    return kernel_dispatch.countable(x, max(3 * x.shape[1], *(ffn.proj.out_channels + 15 for ffn in hidden)))
