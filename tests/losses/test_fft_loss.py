"""FFTLoss against a transform written out as sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lmlt_arch.losses import FFTLoss


def spectrum(image: np.ndarray) -> np.ndarray:
    """Half spectrum of (H, W) by definition: sum of x * exp(-2 pi i (u y / H + v x / W))."""
    height, width = image.shape
    out = np.zeros((height, width // 2 + 1), dtype=complex)
    for u in range(height):
        for v in range(width // 2 + 1):
            for y in range(height):
                for x in range(width):
                    angle = -2 * math.pi * (u * y / height + v * x / width)
                    out[u, v] += image[y, x] * complex(math.cos(angle), math.sin(angle))
    return out


def differences(pred: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """|real| and |imaginary| differences, (B, C, H, W // 2 + 1, 2)."""
    out = []
    for a, b in zip(pred.flatten(0, 1).numpy(), target.flatten(0, 1).numpy(), strict=True):
        delta = spectrum(a) - spectrum(b)
        out.append(np.stack([abs(delta.real), abs(delta.imag)], axis=-1))
    return np.stack(out).reshape(*pred.shape[:2], *out[0].shape)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(2, 3, 5, 6, dtype=torch.float64), torch.rand(2, 3, 5, 6, dtype=torch.float64)


def test_reductions_and_weight_agree_with_the_definition(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected = differences(*pair)
    assert FFTLoss(0.05)(*pair).item() == pytest.approx(0.05 * expected.mean(), rel=1e-10)
    assert FFTLoss(2.0, "sum")(*pair).item() == pytest.approx(2 * expected.sum(), rel=1e-10)
    np.testing.assert_allclose(FFTLoss(reduction="none")(*pair).numpy(), expected, rtol=1e-9, atol=1e-9)

    weight = torch.rand(2, 1, 5, 4, 1, dtype=torch.float64)
    spread = np.broadcast_to(weight.numpy(), expected.shape)
    assert FFTLoss()(*pair, weight).item() == pytest.approx(np.average(expected, weights=spread), rel=1e-10)
    assert FFTLoss(reduction="sum")(*pair, weight).item() == pytest.approx(
        (expected * spread).sum(), rel=1e-10
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_transformed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    # 300 x 300 ones sum to 90000: more than float16 can hold.
    pred = torch.ones(1, 1, 300, 300, dtype=dtype, requires_grad=True)
    target = torch.rand(1, 1, 300, 300).to(dtype)
    loss = FFTLoss()(pred, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(FFTLoss()(pred.double(), target.double()).item(), rel=1e-5)
    loss.backward()
    assert pred.grad is not None
    assert pred.grad.isfinite().all()


def test_gradient_is_that_of_finite_differences(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, target = pair
    assert torch.autograd.gradcheck(lambda x: FFTLoss()(x, target), pred.requires_grad_())


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"'average'.*none, mean, sum"):
        FFTLoss(reduction="average")
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\).*\(1, 1, 4, 4\)"):
        FFTLoss()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
