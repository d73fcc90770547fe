"""Positions of the pixels of an upscaled image between the features that it is made from.

Everything is counted in whole numbers as far as possible: coordinates relative to a feature come out exact in
float32, however large the image is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Largest scale in training: networks never see a smaller size of an output pixel than it has at this scale.
LARGEST_SEEN = 4
# Decides alone where a pixel lies on the center of a feature at the border.
_LEAST_AREA = 1e-9


class Axis(NamedTuple):
    """Pixels of an output axis, and the features before and behind each.

    All tensors are (2, ...): first what concerns the feature before the pixel, then that behind.

    Attributes:
        features: positions.
        offsets: from the features' centers to the pixels'; half a feature is 1.
        shares: how much the features count: linear interpolation.
    """

    features: Tensor
    offsets: Tensor
    shares: Tensor

    @classmethod
    def of(cls, before: int, after: int, pixels: Tensor, dtype: torch.dtype) -> Axis:
        """Pixels of an axis of `after` pixels that is made from `before` features.

        Args:
            before: features along the axis.
            after: pixels along the axis.
            pixels: which of them, int64, any shape.
            dtype: of offsets and shares.
        """
        # In units of 1 / (2 after) of a feature, the center of a pixel is at (2 pixel + 1) before.
        center = (2 * pixels + 1) * before
        # Not below zero before it is divided: ONNX rounds quotients of negative integers the other way.
        first = (center + after).div(2 * after, rounding_mode="floor") - 1
        behind = (center - after - first * (2 * after)).to(dtype) / (2 * after)
        # Beyond the border there is nothing: the outermost feature stands on both sides.
        features = torch.stack((first, first + 1)).clamp(min=0).clamp(max=before - 1)
        offsets = (center - (2 * features + 1) * after).to(dtype) / after
        return cls(features, offsets, torch.stack((1 - behind, behind)))

    def part(self, start: int, stop: int) -> Axis:
        """Some of the pixels of a one-dimensional axis."""
        return Axis(*(tensor[:, start:stop] for tensor in self))

    def to(self, device: torch.device) -> Axis:
        """The same on another device."""
        return Axis(*(tensor.to(device) for tensor in self))


def blending(down: Tensor, across: Tensor) -> Tensor:
    """Weight of each neighbor's prediction: the area between the pixel and the opposite one.

    Args:
        down: vertical offsets from the features above and below, (2, ...).
        across: horizontal offsets from those to the left and right, (2, ...).

    Returns:
        (2, 2, ...), adding up to 1; by neighbor above or below, then left or right.
    """
    areas = (down.flip(0)[:, None] * across.flip(0)[None]).abs() + _LEAST_AREA
    return areas / areas.sum((0, 1))


def relative_cell(before: int, after: int, dtype: torch.dtype) -> Tensor:
    """Size of an output pixel in half features, not below that at the largest scale seen in training."""
    # In tensors, because under torch.export the sizes are symbols that must not be compared.
    sides = (torch.scalar_tensor(side, dtype=dtype) for side in (2 * before, after))
    return torch.div(*sides).clamp(min=2 / LARGEST_SEEN)
