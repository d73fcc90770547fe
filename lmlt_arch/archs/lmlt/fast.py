"""Which implementation runs the blocks of LMLT: `cuda`, `cpu` or the blocks themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from lmlt_arch.archs.common import fused, kernel_dispatch
from lmlt_arch.archs.common.layers import ChannelNorm
from lmlt_arch.archs.lmlt import cpu
from lmlt_arch.archs.lmlt.arguments import LEVELS, WINDOW
from lmlt_arch.archs.lmlt.blocks import CCM, LHSB, LevelAttention, LMLTBlock
from lmlt_arch.archs.lmlt.window_attention import MAX_WIDTH

# The classes whose function `cpu` and `cuda` compute; subclasses and replaced modules run as written.
_KNOWN = frozenset(
    {LMLTBlock, LHSB, LevelAttention, CCM, ChannelNorm}
    | {nn.Conv2d, nn.Dropout, nn.GELU, nn.Linear, nn.ModuleList, nn.Sequential}
)


def run_blocks(blocks: nn.ModuleList, x: Tensor, rows: int, cols: int, *, attn_type: str) -> Tensor:
    """Run all blocks of a network, fast where that is possible.

    Args:
        blocks: of class `LMLTBlock`.
        x: (B, dim, rows c, cols c), c = `LHSB.cell`.
        rows: cells of c x c pixels, one below the other.
        cols: cells side by side.
        attn_type: attention backend of all of them.

    Returns:
        Like `x`.
    """
    typed = cast(Sequence[LMLTBlock], blocks)
    known = _KNOWN if all(_is_published(block) for block in typed) else frozenset()
    # Sizes last: a program that is being exported must not compare them.
    wanted = attn_type in ("auto", "Triton") and kernel_dispatch.usable(blocks, x, known)
    if wanted and x.shape[1] // LEVELS <= MAX_WIDTH and kernel_dispatch.countable(x, 2 * x.shape[1]):
        # Only where Triton is installed.
        from lmlt_arch.archs.lmlt import cuda

        first, fast = typed[0], partial(cuda.run_blocks, typed[:1])
        slow, connected = partial(first, rows=1, cols=1), (first.lhsb.low_to_high,)
        if kernel_dispatch.agree(first, x, fast, slow, side=first.lhsb.cell, constants=connected):
            return cuda.run_blocks(typed, x)
    if attn_type == "auto" and fused.usable(blocks, x, known):
        return cpu.run_blocks(typed, x, cell=typed[0].lhsb.cell)
    for block in blocks:
        x = block(x, rows, cols)
    return x


def _is_published(block: LMLTBlock) -> bool:
    """Whether a block has the levels, windows and pooling that `cpu` and `cuda` compute."""
    lhsb = block.lhsb
    return (len(lhsb.mfr), lhsb.window, lhsb.pooling) == (LEVELS, WINDOW, "max")
