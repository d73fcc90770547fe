"""Gradient penalties against BasicSR's, against a function whose gradient is known, and by what they do."""

from __future__ import annotations

import itertools

import pytest
import torch
from basicsr.archs.discriminator_arch import UNetDiscriminatorSN
from basicsr.losses.gan_loss import gradient_penalty_loss
from basicsr.losses.gan_loss import r1_penalty as basicsr_r1
from torch import Generator, Tensor

from realsr.models.gradient_penalty import r1_penalty, wgan_gp_penalty


def images(seed: int) -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def discriminator() -> UNetDiscriminatorSN:
    torch.manual_seed(0)
    # In evaluation, so that looking does not change the spectral norms.
    return UNetDiscriminatorSN(3, num_feat=4).double().eval()


def test_r1_is_basicsrs_per_prediction(discriminator: UNetDiscriminatorSN) -> None:
    real = images(1).requires_grad_()
    expected = basicsr_r1(discriminator(real), real) / (16 * 16)
    assert r1_penalty(discriminator, images(1)).item() == pytest.approx(expected.item(), rel=1e-12)
    assert expected > 0


def test_r1_of_one_prediction_per_image_is_basicsrs() -> None:
    def score(x: Tensor) -> Tensor:
        return (x**3).flatten(1).sum(1, keepdim=True)

    real = images(1).requires_grad_()
    expected = basicsr_r1(score(real), real)
    torch.testing.assert_close(r1_penalty(score, images(1)), expected)
    torch.testing.assert_close(expected, (3 * images(1) ** 2).square().flatten(1).sum(1).mean())


def test_wgan_gp_is_basicsrs(discriminator: UNetDiscriminatorSN) -> None:
    torch.manual_seed(7)
    share = torch.rand(2, 1, 1, 1)
    between = (share * images(1) + (1 - share) * images(2)).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between)
    expected = ((gradient.norm(2, dim=1) - 1) ** 2).mean()
    value = wgan_gp_penalty(discriminator, images(1), images(2), Generator().manual_seed(7))
    torch.testing.assert_close(value, expected)

    torch.manual_seed(7)
    with pytest.MonkeyPatch.context() as patch:
        # BasicSR's new_tensor warns; what counts is the number.
        patch.setattr("warnings.warn", lambda *_, **__: None)
        torch.testing.assert_close(value, gradient_penalty_loss(discriminator, images(1), images(2)))


@pytest.mark.parametrize("kind", ["r1", "wgan-gp"])
def test_descending_flattens_the_discriminator(discriminator: UNetDiscriminatorSN, kind: str) -> None:
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-3)
    values = []
    for _ in range(8):
        optimizer.zero_grad()
        if kind == "r1":
            value = r1_penalty(discriminator, images(1))
        else:
            value = wgan_gp_penalty(discriminator, images(1), images(2), Generator().manual_seed(0))
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
