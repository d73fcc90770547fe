"""JPEG compression in tensors, of one quality for each image, as BasicSR's DiffJPEG computes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

# The example tables of ITU-T T.81, annex K. DiffJPEG uses the first one transposed, and so do we.
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
_TO_YCBCR = ((0.299, -0.168736, 0.5), (0.587, -0.331264, -0.418688), (0.114, 0.5, -0.081312))
_TO_RGB = ((1.0, 1.0, 1.0), (0.0, -0.344136, 1.772), (1.402, -0.714136, 0.0))
# Keeps quality 100, where the formula gives tables of zeros, from dividing by them.
_SMALLEST_FACTOR = 1e-6
# Vertical and horizontal reduction of the chroma planes.
SUBSAMPLING = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}


@dataclass(frozen=True)
class _Constants:
    to_ycbcr: Tensor
    to_rgb: Tensor
    chroma_shift: Tensor
    luma_table: Tensor
    chroma_table: Tensor
    dct: Tensor
    dct_scale: Tensor
    inverse_dct: Tensor
    inverse_dct_weight: Tensor


def diff_jpeg(
    images: Tensor, quality: Tensor, *, differentiable: bool = False, subsampling: str = "4:2:0"
) -> Tensor:
    """Compress and decompress a batch.

    Args:
        images: RGB of shape (b, 3, h, w), values 0..1, of any size.
        quality: JPEG quality of each image, above 0 to 100; shape (b,).
        differentiable: round with a gradient: ``round(x) + (x - round(x))**3``.
        subsampling: ``4:4:4``, ``4:2:2`` or ``4:2:0``; DiffJPEG knows the last only.

    Returns:
        Shape (b, 3, h, w), values 0..1.
    """
    height, width = images.shape[-2:]
    constants = _constants(images.device, images.dtype)
    factor = quality_factor(quality.to(images)).clamp(min=_SMALLEST_FACTOR)
    padded = F.pad(images, (0, -width % 16, 0, -height % 16))
    planes = (padded * 255).permute(0, 2, 3, 1) @ constants.to_ycbcr + constants.chroma_shift
    luma, *chroma = planes.unbind(-1)
    reduction = SUBSAMPLING[subsampling]
    reduced = [F.avg_pool2d(plane[:, None], reduction)[:, 0] for plane in chroma]
    decoded = [_round_trip(luma, constants.luma_table, factor, constants, differentiable)]
    for plane in reduced:
        small = _round_trip(plane, constants.chroma_table, factor, constants, differentiable)
        decoded.append(small.repeat_interleave(reduction[0], 1).repeat_interleave(reduction[1], 2))
    rgb = (torch.stack(decoded, -1) - constants.chroma_shift) @ constants.to_rgb
    return rgb.permute(0, 3, 1, 2)[..., :height, :width].clamp(0, 255) / 255


def quality_factor(quality: Tensor) -> Tensor:
    """The factor of the quantization tables at a quality: libjpeg's formula, without its rounding."""
    return torch.where(quality < 50, 5000 / quality, 200 - quality * 2) / 100


def _round_trip(
    plane: Tensor, table: Tensor, factor: Tensor, constants: _Constants, differentiable: bool
) -> Tensor:
    """Quantize the 8x8 blocks of planes (b, h, w)."""
    batch, height, width = plane.shape
    blocks = plane.reshape(batch, height // 8, 8, width // 8, 8).transpose(2, 3).reshape(batch, -1, 64)
    steps = table * factor[:, None, None]
    coefficients = constants.dct_scale * ((blocks - 128) @ constants.dct) / steps
    rounded = coefficients.round()
    if differentiable:
        rounded = rounded + (coefficients - rounded) ** 3
    blocks = 0.25 * ((rounded * steps * constants.inverse_dct_weight) @ constants.inverse_dct) + 128
    return blocks.reshape(batch, height // 8, width // 8, 8, 8).transpose(2, 3).reshape(plane.shape)


@cache
def _constants(device: torch.device, dtype: torch.dtype) -> _Constants:
    # An ordinary tensor, wherever the first call comes from: tensors of inference mode allow no gradients.
    with torch.inference_mode(False):
        chroma_table = torch.full((8, 8), 99.0)
        chroma_table[:4, :4] = torch.tensor(_CHROMA_CORNER)
        # cosines[x, u] of position x and frequency u.
        position = torch.arange(8, dtype=torch.float64)
        cosines = torch.cos((2 * position[:, None] + 1) * position * math.pi / 16)
        dct = torch.einsum("xu,yv->xyuv", cosines, cosines).reshape(64, 64)
        alpha = torch.ones(8, dtype=torch.float64)
        alpha[0] = math.sqrt(0.5)
        weight = torch.outer(alpha, alpha).reshape(64)
        to_like = partial(torch.as_tensor, device=device, dtype=dtype)
        return _Constants(
            to_ycbcr=to_like(_TO_YCBCR),
            to_rgb=to_like(_TO_RGB),
            chroma_shift=to_like((0.0, 128.0, 128.0)),
            luma_table=to_like(_LUMA_TABLE).T.reshape(64),
            chroma_table=to_like(chroma_table).reshape(64),
            dct=to_like(dct),
            dct_scale=to_like(weight * 0.25),
            inverse_dct=to_like(dct.T).contiguous(),
            inverse_dct_weight=to_like(weight),
        )
