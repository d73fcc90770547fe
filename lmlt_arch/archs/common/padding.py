"""The padding rule of all networks: mirror, as often as it takes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def is_exporting() -> bool:
    """Whether `torch.export` is tracing (`torch.compile` does not count)."""
    # Not torch.compiler.is_exporting(): until PyTorch 2.12, it is True under torch.compile, too.
    return bool(getattr(torch.compiler, "_is_exporting_flag", torch.compiler.is_compiling()))


def mirror_indices(size: int, before: int, after: int, device: torch.device) -> Tensor:
    """Positions that extend an axis by mirroring at its ends, the end pixels not repeated.

    The mirrored image is mirrored again as often as needed, so any amount of padding is defined: with
    `before, after < size` this is reflect padding, beyond it the rule of `numpy.pad(mode="reflect")`.
    An axis of one pixel repeats that pixel.

    Args:
        size: length of the axis.
        before: positions to add in front.
        after: positions to add behind.
        device: where the result lives.

    Returns:
        Integer positions in [0, size), shape (before + size + after,).
    """
    # In tensors, because under torch.export the size is a symbol that must not be compared.
    last = torch.scalar_tensor(size - 1, dtype=torch.int64, device=device)
    period = (2 * last).clamp(min=1)
    # Counted from -before, shifted by whole periods: compilers dislike remainders of negative numbers.
    positions = torch.arange(size + before + after, device=device) + before * (period - 1)
    return last - (positions % period - last).abs()


def mirror_pad(x: Tensor, *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0) -> Tensor:
    """Pad the two last axes by `mirror_indices`; works for images smaller than the padding.

    Args:
        x: (..., H, W).
        top: rows above.
        bottom: rows below.
        left: columns to the left.
        right: columns to the right.

    Returns:
        (..., top + H + bottom, left + W + right); `x` itself where nothing is added.
    """
    height, width = x.shape[-2:]
    # While tracing, both gathers always stay in the graph: one program then serves every size.
    tracing = torch.compiler.is_compiling()
    if tracing or top or bottom:
        x = x.index_select(-2, mirror_indices(height, top, bottom, x.device))
    if tracing or left or right:
        x = x.index_select(-1, mirror_indices(width, left, right, x.device))
    return x


def cells(size: int, cell: int) -> int:
    """How many cells of `cell` pixels it takes to cover `size` pixels."""
    # Not -(-size // cell): ONNX rounds the quotients of negative integers the other way.
    count = (size + cell - 1) // cell
    if is_exporting():
        # A size derived from the input's would be frozen wherever a shape check asks whether it is 1; a
        # symbol of its own, tied to the input by these checks alone, leaves the program open to every size.
        count = cast(int, torch.scalar_tensor(count, dtype=torch.int64).item())
        torch._check(count >= 1)
        torch._check(size <= count * cell)
    return count


def pad_to_cells(x: Tensor, rows: int, cols: int, cell: int) -> Tensor:
    """Mirror-pad (..., H, W) at the bottom and right to (..., rows cell, cols cell)."""
    return mirror_pad(x, bottom=rows * cell - x.shape[-2], right=cols * cell - x.shape[-1])
