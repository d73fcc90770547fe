"""Blur kernels of a batch, all kinds at once: Gaussian, generalized Gaussian, plateau and sinc."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SINC = "sinc"
# A single one in the middle: filtering with it changes nothing.
PULSE = "none"


@dataclass(frozen=True, kw_only=True)
class KernelSample:
    """The parameters of one kernel for each image; values that a kind does not use are NaN.

    Attributes:
        kinds: a ``Kernel`` of the options, ``sinc`` or ``none`` for each image.
        canvas: side of the tensors, odd; smaller kernels are surrounded by zeros.
        size: sides of the kernels, odd; shape (b,).
        sigma_x: standard deviations in pixels along the first axis; shape (b,).
        sigma_y: the same along the second axis, for the ``aniso`` kinds.
        rotation: angles of the axes in radians, for the ``aniso`` kinds.
        beta: shapes, for the ``generalized`` and ``plateau`` kinds; 1 is the plain form.
        cutoff: cutoff frequencies in radians per pixel (pi is the highest), for ``sinc``.
    """

    kinds: tuple[str, ...]
    canvas: int
    size: Tensor
    sigma_x: Tensor
    sigma_y: Tensor
    rotation: Tensor
    beta: Tensor
    cutoff: Tensor


def build_kernels(sample: KernelSample) -> Tensor:
    """The kernels of a batch, each with sum 1.

    Formulas as in BasicSR's ``data/degradations.py``; the Gaussian is the generalized one with shape 1.

    Returns:
        Shape (b, canvas, canvas), in the dtype of the sampled values (float64).
    """
    radius = sample.canvas // 2
    axis = torch.arange(-radius, radius + 1, dtype=sample.sigma_x.dtype, device=sample.sigma_x.device)
    x, y = axis[None, None, :], axis[None, :, None]
    kinds = sample.kinds
    power = _quadratic_form(sample, x, y) ** _per_image(torch.nan_to_num(sample.beta, nan=1.0))
    kernels = torch.where(
        _is(kinds, "plateau_iso", "plateau_aniso", like=power), 1 / (power + 1), torch.exp(-0.5 * power)
    )
    kernels = torch.where(_is(kinds, SINC, like=power), _sinc(_per_image(sample.cutoff), x, y), kernels)
    kernels = torch.where(_is(kinds, PULSE, like=power), ((x == 0) & (y == 0)).to(kernels.dtype), kernels)
    half = _per_image(sample.size // 2)
    kernels = torch.where((x.abs() <= half) & (y.abs() <= half), kernels, 0)
    return kernels / kernels.sum((1, 2), keepdim=True)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None]


def _is(kinds: tuple[str, ...], *wanted: str, like: Tensor) -> Tensor:
    """Where the kind is one of those wanted, to be combined with (b, k, k)."""
    return _per_image(torch.tensor([kind in wanted for kind in kinds], device=like.device))


def _quadratic_form(sample: KernelSample, x: Tensor, y: Tensor) -> Tensor:
    """Squared distances from the middle in units of the rotated standard deviations; (b, k, k)."""
    isotropic = sample.sigma_y.isnan()
    precision_x = _per_image(sample.sigma_x**-2)
    precision_y = _per_image(torch.where(isotropic, sample.sigma_x, sample.sigma_y) ** -2)
    angle = _per_image(torch.where(isotropic, 0.0, sample.rotation))
    cosine, sine = angle.cos(), angle.sin()
    along_x = cosine**2 * precision_x + sine**2 * precision_y
    along_y = sine**2 * precision_x + cosine**2 * precision_y
    mixed = cosine * sine * (precision_x - precision_y)
    return along_x * x**2 + 2 * mixed * x * y + along_y * y**2


def _sinc(cutoff: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Circular low-pass filter; (b, k, k)."""
    distance = (x**2 + y**2).sqrt()
    ring = cutoff * torch.special.bessel_j1(cutoff * distance) / (2 * math.pi * distance)
    return torch.where(distance == 0, cutoff**2 / (4 * math.pi), ring)
