"""Resizing as the degradation does it, and the ways it may choose from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

RESIZE_MODES = ("area", "bilinear", "bicubic")


def resize_by(images: Tensor, factor: float, mode: str) -> Tensor:
    """Resize (b, c, h, w) by a factor, which also gives the sampling positions; sides are rounded down."""
    return F.interpolate(images, scale_factor=factor, mode=mode)


def resize_to(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize (b, c, h, w) to a height and width."""
    return F.interpolate(images, size=size, mode=mode)
