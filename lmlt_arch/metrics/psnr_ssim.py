"""PSNR and SSIM on the device, equal to BasicSR's `calculate_psnr` and `calculate_ssim` to rounding error."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# ITU-R BT.601 luma of RGB in [0, 255], as MATLAB's rgb2ycbcr has it.
_LUMA = (65.481, 128.553, 24.966)
_LUMA_OFFSET = 16.0
# Side of the Gaussian window of SSIM.
WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(images: Tensor, gt: Tensor, *, crop_border: int = 0, test_y_channel: bool = False) -> Tensor:
    """Peak signal-to-noise ratio of 8-bit images.

    Args:
        images: RGB or gray, (B, C, H, W), uint8.
        gt: the same shape.
        crop_border: pixels left out at each edge.
        test_y_channel: compare luma instead of RGB.

    Returns:
        (B,) in dB, float64; infinite for equal images.

    Raises:
        ValueError: the shapes differ, or nothing is left inside the border.
    """
    images, gt = _prepare(images, gt, crop_border, test_y_channel)
    mse = (images - gt).square().mean((1, 2, 3))
    return 10 * torch.log10(255.0**2 / mse)


def ssim(images: Tensor, gt: Tensor, *, crop_border: int = 0, test_y_channel: bool = False) -> Tensor:
    """Structural similarity (Wang et al. 2004) of 8-bit images; for arguments and errors see `psnr`.

    Returns:
        (B,), float64, averaged over channels.

    Raises:
        ValueError: also if less than 11 x 11 pixels are left.
    """
    images, gt = _prepare(images, gt, crop_border, test_y_channel)
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} x {WINDOW} pixels; {_size(images)} are left")
    moments = torch.cat([images, gt, images * images, gt * gt, images * gt], dim=1)
    mu1, mu2, square1, square2, product = _blur(moments).chunk(5, dim=1)
    variance1, variance2, covariance = square1 - mu1 * mu1, square2 - mu2 * mu2, product - mu1 * mu2
    likeness = (2 * mu1 * mu2 + _C1) * (2 * covariance + _C2)
    return (likeness / ((mu1**2 + mu2**2 + _C1) * (variance1 + variance2 + _C2))).mean((1, 2, 3))


def _prepare(images: Tensor, gt: Tensor, border: int, luma: bool) -> tuple[Tensor, Tensor]:
    if images.shape != gt.shape:
        raise ValueError(f"the images are {_size(images)}, their ground truth is {_size(gt)}")
    if min(images.shape[-2:]) <= 2 * border:
        raise ValueError(f"nothing of {_size(images)} pixels is left inside a border of {border}")
    pair = torch.stack([images, gt]).double()
    pair = pair[..., border : pair.shape[-2] - border, border : pair.shape[-1] - border]
    if luma and pair.shape[2] == 3:
        weights = pair.new_tensor(_LUMA) / 255
        # BasicSR keeps luma in float32.
        pair = (torch.einsum("pbchw,c->pbhw", pair, weights) + _LUMA_OFFSET)[:, :, None].float().double()
    first, second = pair
    return first, second


def _blur(images: Tensor) -> Tensor:
    """Gaussian filter without padding, one direction after the other."""
    places = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, WINDOW)
    blurred = F.conv2d(images, weights, groups=images.shape[1])
    return F.conv2d(blurred, weights.mT, groups=images.shape[1])


def _size(images: Tensor) -> str:
    return f"{images.shape[-1]}x{images.shape[-2]}"
