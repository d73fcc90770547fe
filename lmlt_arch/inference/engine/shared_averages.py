"""Averages over a whole image, shared by its tiles.

ESC's dynamic kernels depend on the average of a feature map over the whole image (arXiv 2503.06671, section
3.2). A tile that averages over itself computes another function, and neighbors differ visibly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.renamed import warn_renamed

# Of a sample window, in pixels of lq.
_SAMPLE_SIDE = 128


class SharedAverages:
    """The averages over one image, layer by layer.

    Sample tiles run as one batch whose averages are taken over all of it, so that every layer sees the
    features that the averages of the layers before it lead to. Then each tile runs with these averages.

    Args:
        network: whose averages; of a network without any, nothing is shared.

    Attributes:
        active: whether a forward pass collects or uses averages now.
        view: which of several versions of the image a pass sees, each of which has averages of its own.
        turn: what that version has done to the image.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
        self._averages: dict[tuple[nn.Module, int], Tensor] = {}
        self.active = False
        self.view = 0
        self.turn: Callable[[Tensor], Tensor] = _as_it_is

    @property
    def needed(self) -> bool:
        """Whether the network averages over whole images."""
        return bool(self._layers)

    @contextmanager
    def collected(self, weight: Tensor) -> Iterator[None]:
        """Within this context, a forward pass averages over its whole batch and stores the averages.

        Args:
            weight: (B, 1, h, w), how much each pixel counts.
        """

        def average(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            (features,) = inputs
            height, width = features.shape[-2:]
            share = F.adaptive_avg_pool2d(self.turn(weight), (height, width)).to(features.device)
            total = (features.float() * (share / share.sum())).sum((0, 2, 3), keepdim=True)
            self._averages[module, self.view] = total.to(output.dtype)
            return self._averages[module, self.view].expand_as(output)

        with self._hooked(average):
            yield

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context, forward passes use the stored averages."""

        def recall(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            return self._averages[module, self.view].expand_as(output)

        with self._hooked(recall):
            yield

    @contextmanager
    def _hooked(self, hook: Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in self._layers:
                stack.callback(layer.register_forward_hook(hook).remove)
            self.active = True
            try:
                yield
            finally:
                self.active = False


def _as_it_is(image: Tensor) -> Tensor:
    return image


def sample_windows(
    height: int, width: int, most: int, multiple: int
) -> tuple[list[tuple[slice, slice]], Tensor]:
    """Windows of one size that represent an image.

    Together they cover the image where `most` allows for that; otherwise they are spread evenly over it.

    Args:
        height: of the image.
        width: of the image.
        most: pixels in all windows together.
        multiple: windows begin at multiples of this.

    Returns:
        Rows and columns of each window, and how much each of its pixels counts, (windows, 1, h, w): all
        pixels of a covered image count alike.
    """
    side = max(_SAMPLE_SIDE // multiple, 1) * multiple
    h, w = min(height, side), min(width, side)
    rows, columns = math.ceil(height / h), math.ceil(width / w)
    while rows * columns * h * w > most and rows * columns > 1:
        if columns == 1 or (rows > 1 and rows * h > columns * w):
            rows -= 1
        else:
            columns -= 1
    tops, lefts = _starts(height, h, rows, multiple), _starts(width, w, columns, multiple)
    windows = [(slice(y, y + h), slice(x, x + w)) for y in tops for x in lefts]
    covered = _coverage(height, tops, h)[:, None] * _coverage(width, lefts, w)[None]
    weight = torch.stack([1 / covered[y, x] for y, x in windows])
    return windows, weight[:, None]


def _starts(length: int, side: int, count: int, multiple: int) -> list[int]:
    """Where `count` windows begin, spread over an axis; the last one may leave the grid to reach the end."""
    if count * side < length:
        centered = [(number + 0.5) * length / count - side / 2 for number in range(count)]
        return [int(start) // multiple * multiple for start in centered]
    gap = (length - side) / max(1, count - 1)
    return [int(number * gap) // multiple * multiple for number in range(count - 1)] + [length - side]


def _coverage(length: int, starts: list[int], side: int) -> Tensor:
    """How many windows see each pixel of an axis."""
    count = torch.zeros(length)
    for start in starts:
        count[start : start + side] += 1
    return count


def __getattr__(name: str) -> Any:
    if name != "SharedStatistics":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_renamed("SharedStatistics", "SharedAverages")
    return SharedAverages
