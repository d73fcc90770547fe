"""LMLT's inference on a GPU: what `lmlt_arch.archs.lmlt.blocks` defines, in few kernels.

Between kernels lie one normed map, the pooled levels, the attention's output of all levels, and a piece of
the mixer's hidden channels. Windows, scores and upscaled levels are never stored. Import this module only
where Triton is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from triton import cdiv

from lmlt_arch.archs.common.kernel_dispatch import convolution_constants, padded, pitch
from lmlt_arch.archs.lmlt import triton_kernels as kernels
from lmlt_arch.archs.lmlt.window_attention import attend_level

if TYPE_CHECKING:
    from lmlt_arch.archs.lmlt.blocks import LHSB, LevelAttention, LMLTBlock

# How a kernel divides its work: the fastest of six to nine ways each on an NVIDIA H200.
NORM_POOL = {"num_warps": 1}
AGGREGATE = {"NUMBERS": 2048, "num_warps": 4}
MERGE = {"PIXELS": 64, "SOURCES": 32, "num_warps": 4}
# Bytes of a hidden channel that the mixer makes at a time: more take memory, fewer time.
MIXED = 1 << 18


def run_blocks(blocks: Sequence[LMLTBlock], x: Tensor) -> Tensor:
    """All blocks, one after the other.

    Args:
        blocks: in evaluation mode, all alike.
        x: (B, dim, H, W), H and W multiples of 64; is left as it is.

    Returns:
        Like `x`, channels last.
    """
    x = x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    run = _Run(x)
    # Channels last, of widths that library kernels take. Made again each time: nothing can go stale.
    spread = torch.stack([cast(nn.Conv2d, block.ccm.ccm[0]).weight for block in blocks]).movedim(2, 4)
    spread = functional.pad(spread, (0, run.pitch - run.dim, 0, 0, 0, 0, 0, -spread.shape[1] % 8))
    spread = spread.contiguous().movedim(4, 2)
    # Triton launches on the current device, whichever the tensors are on.
    with torch.cuda.device_of(x):
        for block, weight in zip(blocks, spread, strict=True):
            run.norm_pool(block)
            run.attend(block.lhsb)
            run.aggregate(block)
            run.mix(block, weight)
    return x.permute(0, 3, 1, 2)


class _Run:
    """The map, and the buffers by which the kernels of a block pass on their results.

    Args:
        x: (B, H, W, dim), contiguous; changes in place.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.batch, self.height, self.width, self.dim = x.shape
        self.share = self.dim // 4
        sizes = [(self.batch, self.height >> i, self.width >> i, self.share) for i in range(4)]
        # Of the map that convolutions read: a multiple of what matrix units and wide loads take.
        self.pitch = pitch(self.dim)
        self.normed = x.new_empty(self.batch, self.height, self.width, self.pitch)
        self.pooled = [x.new_empty(size) for size in sizes[1:]]
        self.levels = [x.new_empty(size) for size in sizes]
        self.padded = padded(self.dim)
        self.constants = convolution_constants()

    def norm_pool(self, block: LMLTBlock) -> None:
        """`normed`, and its channels of the coarser levels pooled."""
        rows, cols = self.batch * self.height // 8, self.width // 8
        norm = block.norm1
        kernels.norm_pool_kernel[(rows * cols,)](
            self.x, norm.weight, norm.bias, self.normed, *self.pooled, cols,
            SHARE=self.share, PITCH=self.pitch, PADDED=self.padded, **NORM_POOL,
        )  # fmt: skip

    def attend(self, lhsb: LHSB) -> None:
        """`levels`, from coarse to fine."""
        coarser: Tensor | None = None
        for number in reversed(range(4)):
            attention = cast("LevelAttention", lhsb.mfr[number])
            z = self.pooled[number - 1] if number else self.normed
            attend_level(z, coarser, attention.weights(), self.levels[number])
            coarser = self.levels[number] if lhsb.low_to_high else None

    def aggregate(self, block: LMLTBlock) -> None:
        """The gated levels added to the map, and `normed` for the mixer."""
        aggr, norm, pixels = block.lhsb.aggr, block.norm2, self.batch * self.height * self.width
        together = max(16, AGGREGATE["NUMBERS"] // self.padded)
        kernels.aggregate_kernel[(cdiv(pixels, together),)](
            *self.levels, aggr.weight, aggr.bias, self.x, norm.weight, norm.bias, self.normed,
            pixels, self.height, self.width,
            SHARE=self.share, PITCH=self.pitch, PADDED=padded(self.share), PADDED_WIDTH=self.padded,
            PIXELS=together, num_warps=AGGREGATE["num_warps"], **self.constants,
        )  # fmt: skip

    def mix(self, block: LMLTBlock, spread: Tensor) -> None:
        """The mixer's output added to the map; `spread` is (hidden or more, pitch, 3, 3)."""
        first, merge = cast(nn.Conv2d, block.ccm.ccm[0]), cast(nn.Conv2d, block.ccm.ccm[2])
        for x, normed, skipped in self._pieces():
            # No kernel of our own came near this library's. The bias comes later: here it would be a pass.
            hidden = functional.conv2d(normed.permute(0, 3, 1, 2), spread, padding=1).permute(0, 2, 3, 1)
            hidden = hidden[:, skipped : skipped + x.shape[1]].contiguous()
            pixels = x.shape[:3].numel()
            kernels.merge_kernel[(cdiv(pixels, MERGE["PIXELS"]),)](
                hidden, first.bias, merge.weight, merge.bias, x, pixels,
                WIDTH=self.dim, HIDDEN=merge.in_channels, PITCH=hidden.shape[-1], PADDED_WIDTH=self.padded,
                **self.constants, **MERGE,
            )  # fmt: skip

    def _pieces(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Images of the map, or rows of one; these of `normed`, and one beyond; how many come before.

        Beyond are rows inside of the image, one above and one below at most.
        """
        line = self.width * self.x.element_size()
        images = max(1, MIXED // (self.height * line))
        rows = max(1, min(self.height, MIXED // line))
        for x, normed in zip(self.x.split(images), self.normed.split(images), strict=True):
            for top in range(0, self.height, rows):
                above = min(top, 1)
                yield x[:, top : top + rows], normed[:, top - above : top + rows + 1], above
