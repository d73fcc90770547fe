"""An image and its ground truth, PSNR and SSIM; the image can be made from ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmlt_arch.data.images import read_image
from lmlt_arch.data.imresize import imresize
from lmlt_arch.errors import DataError
from lmlt_arch.metrics import psnr, ssim

Pixels = NDArray[np.uint8]

BICUBIC = "bicubic"
"""Name of bicubic upscaling in tables and pictures."""


class Pair(NamedTuple):
    """LQ of shape (h, w, 3) and, where it is known, ground truth of shape (h * scale, w * scale, 3)."""

    lq: Pixels
    gt: Pixels | None


class Scores(NamedTuple):
    """PSNR in dB and SSIM on luma."""

    psnr: float
    ssim: float


def read_pair(lq_path: Path | None, gt_path: Path | None, scale: int) -> Pair:
    """Read an image with its ground truth, or make it from that.

    Args:
        lq_path: None to shrink the ground truth as MATLAB does, cropped to a multiple of the scale first.
        gt_path: None where there is no ground truth. What it has beyond `scale` times the LQ image, less than
            one pixel of that, is cropped at the right and bottom, as BasicSR's paired dataset does.
        scale: GT size over LQ size.

    Raises:
        ImageError: a file that cannot be used.
        DataError: sizes that do not belong together.
    """
    gt = None if gt_path is None else read_image(gt_path)
    if lq_path is None:
        if gt is None:
            raise ValueError("neither image nor ground truth")
        height, width = (length - length % scale for length in gt.shape[:2])
        if not height or not width:
            raise DataError(f"{gt_path} of {_size(gt)} pixels is too small for x{scale}")
        gt = gt[:height, :width]
        return Pair(imresize(gt, 1 / scale), gt)
    lq = read_image(lq_path)
    if gt is None:
        return Pair(lq, None)
    height, width = (length * scale for length in lq.shape[:2])
    if not (height <= gt.shape[0] < height + scale and width <= gt.shape[1] < width + scale):
        raise DataError(
            f"{gt_path} of {_size(gt)} pixels is not {scale} times {lq_path} of {_size(lq)}: "
            f"expected {width}x{height}"
        )
    return Pair(lq, gt[:height, :width])


def score(image: Pixels, gt: Pixels, *, border: int, name: str) -> Scores:
    """PSNR and SSIM as BasicSR computes them: on the Y channel, a border left out.

    Args:
        image: (H, W, 3).
        gt: the same shape.
        border: pixels left out at each edge; the field leaves out `scale`.
        name: name of the image in errors.

    Raises:
        DataError: too small an image.
    """
    pair = (_batch(image), _batch(gt))
    try:
        first, second = (
            measure(*pair, crop_border=border, test_y_channel=True).item() for measure in (psnr, ssim)
        )
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    return Scores(first, second)


def _batch(image: Pixels) -> Tensor:
    return torch.tensor(image).permute(2, 0, 1)[None]


def _size(image: Pixels) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
