"""Loading a checkpoint of one scale into a network of another (arXiv 2503.06671: x3 and x4 start from x2)."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def head_scale(rows: int) -> int:
    """The scale r of a pixel-shuffle head with 3 r^2 rows."""
    return math.isqrt(rows // 3)


def resize_head(tensor: Tensor, scale: int) -> Tensor:
    """Resize the pixel-shuffle head of one scale to another.

    The rows are seen as an R, a G and a B image of s x s sub-pixels, each resized bilinearly
    (`align_corners=False`, no antialiasing).

    Args:
        tensor: weight (3 s^2, C, kh, kw) or bias (3 s^2).
        scale: the new scale r.

    Returns:
        (3 r^2, C, kh, kw) or (3 r^2), in the dtype given.
    """
    old = head_scale(tensor.shape[0])
    # (3 s s, rest) -> (rest, 3, s, s)
    images = tensor.detach().reshape(3, old, old, -1).permute(3, 0, 1, 2)
    resized = F.interpolate(images, size=(scale, scale), mode="bilinear", align_corners=False)
    return resized.permute(1, 2, 3, 0).reshape(3 * scale * scale, *tensor.shape[1:])


def convert_scale_on_load(
    module: nn.Module,
    state_dict: dict[str, Any],
    prefix: str,
    _local_metadata: dict[str, Any],
    _strict: bool,
    _missing: list[str],
    _unexpected: list[str],
    _errors: list[str],
) -> None:
    """State-dict pre-hook of networks whose head is `to_img`: convert another scale's head.

    Works on the copy that `load_state_dict` made, so the caller's dict stays as it is, and also where the
    network is a part of a larger module.
    """
    weight = state_dict.get(f"{prefix}to_img.weight")
    own = module.get_parameter("to_img.weight")
    if weight is None or weight.shape == own.shape or weight.shape[1:] != own.shape[1:]:
        return
    scale = head_scale(own.shape[0])
    if weight.shape[0] != 3 * head_scale(weight.shape[0]) ** 2:
        return
    for part in ("weight", "bias"):
        name = f"{prefix}to_img.{part}"
        if name in state_dict:
            state_dict[name] = resize_head(state_dict[name], scale)
