"""Noise of a sensor, which depends on the light, and the halos of oversharpening."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from realsr.degradation.filters import filter_images
from realsr.degradation.kernels import KernelSample, build_kernels

HALO_CANVAS = 13


@dataclass(frozen=True, kw_only=True)
class CameraNoiseSample:
    """Sensor noise; zeros leave an image as it is.

    Attributes:
        shot: standard deviation at full light, growing with the root of the light; float32 of shape (b,).
        read: standard deviation in the dark; float32 of shape (b,).
        seed: of the noise fields.
    """

    shot: Tensor
    read: Tensor
    seed: int


@dataclass(frozen=True, kw_only=True)
class HaloSample:
    """Oversharpening: what is added of the detail (0 for none; shape (b,)) above a blur by these kernels."""

    amount: Tensor
    kernel: KernelSample


def add_camera_noise(images: Tensor, sample: CameraNoiseSample) -> Tensor:
    """Add noise in linear light, of variance ``shot**2 * light + read**2`` (arXiv 1807.04686, without Bayer).

    Args:
        images: sRGB of shape (b, 3, h, w), values 0..1.
        sample: strengths, relative to full light, and the seed.

    Returns:
        Shape (b, 3, h, w), values 0..1; images with zeros for strengths are unchanged.
    """
    shot, read = (values.to(images)[:, None, None, None] for values in (sample.shot, sample.read))
    generator = Generator(images.device).manual_seed(sample.seed)
    field = torch.randn(images.shape, generator=generator, dtype=images.dtype, device=images.device)
    light = srgb_to_linear(images.clamp(0, 1))
    noisy = linear_to_srgb((light + field * (shot**2 * light + read**2).sqrt()).clamp(0, 1))
    return torch.where((shot == 0) & (read == 0), images, noisy)


def add_halo(images: Tensor, sample: HaloSample) -> Tensor:
    """Sharpen (b, 3, h, w) until edges have seams, and clip to 0..1."""
    blurred = filter_images(images, build_kernels(sample.kernel))
    amount = sample.amount.to(images)[:, None, None, None]
    return torch.where(amount == 0, images, (images + amount * (images - blurred)).clamp(0, 1))


def srgb_to_linear(values: Tensor) -> Tensor:
    """Light of sRGB values (IEC 61966-2-1), both 0..1."""
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: Tensor) -> Tensor:
    """SRGB values of light (IEC 61966-2-1), both 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
