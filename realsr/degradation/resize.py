"""Resizing as the degradation does it, by any of its modes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ANTIALIAS = "_antialias"
_LANCZOS_LOBES = 3


def resize_by(images: Tensor, factor: float, mode: str) -> Tensor:
    """Resize (b, c, h, w) by a factor, which also gives the sampling positions; sides are rounded down."""
    if mode == "lanczos":
        height, width = (max(1, int(side * factor)) for side in images.shape[-2:])
        return _lanczos(images, (height, width), (factor, factor))
    return F.interpolate(images, scale_factor=factor, **_arguments(mode))


def resize_to(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize (b, c, h, w) to a height and width."""
    if mode == "lanczos":
        height, width = images.shape[-2:]
        return _lanczos(images, size, (size[0] / height, size[1] / width))
    return F.interpolate(images, size=size, **_arguments(mode))


def _arguments(mode: str) -> dict[str, Any]:
    if mode.endswith(_ANTIALIAS):
        return {"mode": mode.removesuffix(_ANTIALIAS), "antialias": True}
    return {"mode": mode}


def _lanczos(images: Tensor, size: tuple[int, int], factors: tuple[float, float]) -> Tensor:
    """Resize by the windowed sinc, stretched when shrinking."""
    rows, columns = (
        _lanczos_weights(side, target, factor).to(images)
        for side, target, factor in zip(images.shape[-2:], size, factors, strict=True)
    )
    return rows @ images @ columns.T


def _lanczos_weights(side: int, target: int, factor: float) -> Tensor:
    """Weight of each input pixel in each output pixel; shape (target, side), with sums of 1."""
    centers = (torch.arange(target, dtype=torch.float64) + 0.5) / factor - 0.5
    distance = (torch.arange(side, dtype=torch.float64) - centers[:, None]) * min(1.0, factor)
    weights = torch.sinc(distance) * torch.sinc(distance / _LANCZOS_LOBES)
    weights = torch.where(distance.abs() < _LANCZOS_LOBES, weights, 0)
    return weights / weights.sum(1, keepdim=True)
