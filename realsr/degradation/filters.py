"""Filtering a batch: one kernel for each image, and the sharpening (USM) of ground truth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

USM_RADIUS = 25
USM_SIGMA = 8.0
# FFTs are fast at lengths without large prime factors.
_FAST_FACTORS = (2, 3, 5)


def filter_images(images: Tensor, kernels: Tensor) -> Tensor:
    """Filter each image with its own kernel, reflecting the borders (correlation, as ``cv2.filter2D``).

    Args:
        images: shape (b, c, h, w), with h and w above half a kernel.
        kernels: shape (b, k, k), with k odd.

    Returns:
        Shape (b, c, h, w).
    """
    batch, channels, height, width = images.shape
    radius = kernels.shape[-1] // 2
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    planes = padded.reshape(1, batch * channels, *padded.shape[-2:])
    weight = kernels.to(images).repeat_interleave(channels, dim=0)[:, None]
    return F.conv2d(planes, weight, groups=batch * channels).reshape(batch, channels, height, width)


def sharpen(images: Tensor, *, weight: float = 0.5, threshold: float = 10.0) -> Tensor:
    """Sharpen by an unsharp mask where detail exceeds a threshold, as BasicSR's ``USMSharp`` does.

    The two 51x51 Gaussian blurs run as FFTs, some hundred times faster than BasicSR's convolutions on a CPU.

    Args:
        images: shape (b, c, h, w), values 0..1, with h and w above 25.
        weight: strength.
        threshold: smallest difference from the blurred image, of 255, that counts as detail.

    Returns:
        Shape (b, c, h, w), values 0..1 for input in 0..1.

    Raises:
        ValueError: if the images are smaller.
    """
    if min(images.shape[-2:]) <= USM_RADIUS:
        raise ValueError(
            f"images of {images.shape[-1]}x{images.shape[-2]} are too small to be sharpened: at least "
            f"{USM_RADIUS + 1} pixels on both sides are needed"
        )
    residual = images - gaussian_blur(images)
    mask = (residual.abs() * 255 > threshold).to(images.dtype)
    soft_mask = gaussian_blur(mask)
    sharp = (images + weight * residual).clamp(0, 1)
    return soft_mask * sharp + (1 - soft_mask) * images


def gaussian_blur(images: Tensor, *, sigma: float = USM_SIGMA, radius: int = USM_RADIUS) -> Tensor:
    """Blur (b, c, h, w) by a Gaussian cut off at a radius in pixels, reflecting the borders, with an FFT."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    # Sums that wrap around stay within the margin of two radii, which is cut off.
    size = [_fast_length(side) for side in padded.shape[-2:]]
    taps = _gaussian_taps(sigma, radius).to(images)
    response = torch.fft.fft(taps, size[0])[:, None] * torch.fft.rfft(taps, size[1])
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded, size) * response, size)
    return blurred[..., 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]


def _gaussian_taps(sigma: float, radius: int) -> Tensor:
    distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (distance / sigma) ** 2)
    return taps / taps.sum()


def _fast_length(length: int) -> int:
    """The next length that is a product of small primes."""
    while True:
        rest = length
        for factor in _FAST_FACTORS:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1
