"""Gaussian and Poisson noise for a batch, in color or gray."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

# Of torchvision's rgb_to_grayscale, which BasicSR uses.
_LUMA = (0.2989, 0.587, 0.114)


def gaussian_noise(images: Tensor, sigma: Tensor, gray: Tensor, *, generator: torch.Generator) -> Tensor:
    """Gaussian noise of one strength for each image.

    As in BasicSR, the gray images of a batch share one noise field.

    Args:
        images: shape (b, 3, h, w), values 0..1; gives shape, dtype and device only.
        sigma: standard deviations, of 255; shape (b,), on the CPU.
        gray: whether all channels get the same noise; bool of shape (b,), on the CPU.
        generator: of the images' device.

    Returns:
        The noise alone, shape (b, 3, h, w).
    """
    sample_field = partial(torch.randn, generator=generator, dtype=images.dtype, device=images.device)
    strength = _per_image(sigma, images)
    gray_field = sample_field(images.shape[2:]) if gray.any() else None
    noise = sample_field(images.shape) * strength / 255
    return noise if gray_field is None else _choose(gray, gray_field * strength / 255, noise)


def poisson_noise(images: Tensor, scale: Tensor, gray: Tensor, *, generator: torch.Generator) -> Tensor:
    """Shot noise: an image's levels are counts, as many as a power of two not below its number of levels.

    Args:
        images: shape (b, 3, h, w), values 0..1.
        scale: factors of the noise; shape (b,), on the CPU.
        gray: whether all channels get the same noise; bool of shape (b,), on the CPU.
        generator: of the images' device.

    Returns:
        The noise alone, shape (b, 3, h, w).
    """
    gray_noise = None
    if gray.any():
        luma = sum(weight * channel for weight, channel in zip(_LUMA, images.unbind(1), strict=True))
        gray_noise = _shot_noise(torch.as_tensor(luma)[:, None], generator)
    noise = _shot_noise(images, generator)
    if gray_noise is not None:
        noise = _choose(gray, gray_noise, noise)
    return noise * _per_image(scale, images)


def _shot_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    levels = (images * 255).round().clamp(0, 255)
    peak = _peaks(levels).to(images.dtype)[:, None, None, None]
    clean = levels / 255
    return torch.poisson(clean * peak, generator=generator) / peak - clean


def _peaks(levels: Tensor) -> Tensor:
    """The smallest power of two that is not below the number of levels in each image; shape (b,)."""
    codes = levels.flatten(1).long()
    seen = torch.zeros(len(codes), 256, dtype=torch.bool, device=codes.device)
    seen[torch.arange(len(codes), device=codes.device)[:, None], codes] = True
    powers = 2 ** torch.arange(9, device=codes.device)
    return powers[torch.searchsorted(powers, seen.sum(1))]


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images)[:, None, None, None]


def _choose(gray: Tensor, gray_noise: Tensor, noise: Tensor) -> Tensor:
    return torch.where(gray.to(noise.device)[:, None, None, None], gray_noise, noise)
