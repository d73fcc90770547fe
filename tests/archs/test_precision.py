"""Half precision, autocast, and inputs far outside of [0, 1]."""

from __future__ import annotations

import pytest
import torch
from helpers.numerics import DEVICE, assert_close
from helpers.small.networks import ONE_PER_CLASS, SMALL, Small, image

from lmlt_arch.archs.common.layers import ChannelNorm

HALVES = [torch.float16, torch.bfloat16]


def test_float32_is_near_float64(small: Small) -> None:
    x = image(20, 24, dtype=torch.float64)
    with torch.no_grad():
        exact = small.filled(torch.float64)(x)
        assert_close(small.filled(torch.float32)(x.float()), exact)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_is_near_float32(small: Small, dtype: torch.dtype) -> None:
    x = image(20, 24, dtype=torch.float32)
    with torch.no_grad():
        out = small.filled(dtype)(x.to(dtype))
        assert out.dtype is dtype
        assert_close(out, small.filled(torch.float32)(x))


@pytest.mark.parametrize("attn_type", ["Naive", "SDPA", "Flex", "Flash"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["LMLT", "ESC"])
def test_half_with_every_backend(name: str, dtype: torch.dtype, attn_type: str) -> None:
    x = image(16, 16, dtype=torch.float32)
    with torch.no_grad():
        exact = SMALL[name].filled(torch.float32)(x)
        assert_close(SMALL[name].filled(dtype, attn_type=attn_type)(x.to(dtype)), exact)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_backward(small: Small, dtype: torch.dtype) -> None:
    network = small.filled(dtype).train()
    network(image(16, 16, dtype=dtype)).float().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_autocast(small: Small, dtype: torch.dtype) -> None:
    network, x = small.filled(torch.float32), image(16, 24, batch=2, dtype=torch.float32)
    with torch.no_grad():
        exact = network(x)
        with torch.autocast(DEVICE.type, dtype=dtype):
            assert_close(network(x).to(dtype), exact)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_autocast_training(small: Small, dtype: torch.dtype) -> None:
    network = small.filled(torch.float32).train()
    with torch.autocast(DEVICE.type, dtype=dtype):
        loss = network(image(16, 16, dtype=torch.float32)).float().square().mean()
    loss.backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name


def test_layer_norm_of_large_float16_values() -> None:
    """Deviations above 255 overflow when squared in float16; the norm must not collapse to its bias."""
    norm = ChannelNorm(16).to(DEVICE)
    x = (image(8, 8, batch=16, dtype=torch.float32) * 2000 - 1000).transpose(0, 1).reshape(3, 16, 8, 8)
    with torch.no_grad():
        exact = norm(x.half().float())
        assert exact.abs().max() > 1
        assert_close(norm.half()(x.half()), exact, tolerance=2e-3)


@pytest.mark.parametrize("name", ONE_PER_CLASS)
def test_large_float16_input(name: str) -> None:
    x = (image(16, 16, dtype=torch.float32) * 2000 - 1000).half()
    with torch.no_grad():
        exact = SMALL[name].filled(torch.float32)(x.float())
        out = SMALL[name].filled(torch.float16)(x)
    assert_close(out, exact)
    assert out.float().std() > 0.5 * exact.std()
