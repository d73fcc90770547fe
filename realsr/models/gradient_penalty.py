"""Penalties on the gradient of a discriminator with respect to its input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Discriminator = Callable[[Tensor], Tensor]


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """R1 (arXiv 1801.04406, eq. 9): squared norm of the gradient at real images, averaged.

    For a discriminator with one prediction per image this is BasicSR's `r1_penalty`. Where it predicts a
    map, the result is divided by the predictions per image, so that weights mean the same at any size.

    Args:
        discriminator: maps (b, 3, h, w) to (b, ...).
        real: (b, 3, h, w).

    Returns:
        A scalar, differentiable with respect to the discriminator's parameters.
    """
    predictions, gradient = _gradient(discriminator, real)
    return gradient.square().sum() / predictions.numel()


def wgan_gp_penalty(discriminator: Discriminator, real: Tensor, fake: Tensor, generator: Generator) -> Tensor:
    """WGAN-GP (arXiv 1704.00028) as in BasicSR: the gradient's norm over channels is pulled to 1.

    Args:
        discriminator: maps (b, 3, h, w) to (b, ...).
        real: (b, 3, h, w).
        fake: the same shape; the gradient is taken at random points between both.
        generator: on the CPU, the only source of chance.

    Returns:
        A scalar, differentiable with respect to the discriminator's parameters.
    """
    share = torch.rand(len(real), 1, 1, 1, generator=generator).to(real)
    _, gradient = _gradient(discriminator, share * real + (1 - share) * fake)
    return (gradient.norm(2, dim=1) - 1).square().mean()


def _gradient(discriminator: Discriminator, images: Tensor) -> tuple[Tensor, Tensor]:
    """The predictions at images, and the gradient of their sum."""
    images = images.detach().requires_grad_()
    predictions = discriminator(images)
    (gradient,) = torch.autograd.grad(predictions.sum(), images, create_graph=True)
    return predictions, gradient
