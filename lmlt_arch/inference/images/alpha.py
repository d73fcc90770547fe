"""Transparency: colors for pixels that are fully transparent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_transparent(color: Tensor, alpha: Tensor) -> Tensor:
    """Give fully transparent pixels the colors of the visible pixels next to them.

    Files hold any color there, often black, and a network spreads it into the visible edge as a dark fringe.
    Colors are averaged premultiplied with alpha, over ever larger neighborhoods until all pixels have one.

    Args:
        color: (C, H, W).
        alpha: (1, H, W) in [0, 1].

    Returns:
        (C, H, W); visible pixels are unchanged.
    """
    hidden = alpha == 0
    if not hidden.any():
        return color
    if hidden.all():
        return torch.zeros_like(color)
    return torch.where(hidden, _spread(color * alpha, alpha), color)


def _spread(premultiplied: Tensor, weight: Tensor) -> Tensor:
    """Weighted averages; where the weight is 0, those of the next coarser level."""
    filled = premultiplied / weight.clamp(min=1e-12)
    if max(weight.shape[-2:]) == 1 or bool((weight > 0).all()):
        return filled
    pooled = F.avg_pool2d(
        torch.cat([premultiplied, weight])[None], 2, ceil_mode=True, count_include_pad=False
    )[0]
    coarse = _spread(pooled[:-1], pooled[-1:])
    size = weight.shape[-2:]
    smooth = F.interpolate(coarse[None], size=size, mode="bilinear", align_corners=False)[0]
    return torch.where(weight > 0, filled, smooth)
