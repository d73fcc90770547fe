"""All attention backends compute the same function; Flash within the bound that it reports."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from helpers.golden_rules import fill
from helpers.numerics import DEVICE, assert_close
from helpers.small.networks import ONE_PER_CLASS, SMALL, image
from torch import Tensor

from lmlt_arch import archs
from lmlt_arch.archs.common.attention import factor_bias, naive_attention
from lmlt_arch.archs.esc.attention import WindowAttention

EXACT = ["auto", "SDPA", "Flex"]
PRECISIONS = [torch.float64, torch.float32]


def by_hand(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention one query at a time, in numpy."""
    out = np.zeros(q.shape)
    query, key, value, offset = (t.detach().double().cpu().numpy() for t in (q, k, v, bias))
    for b, h, i in np.ndindex(*q.shape[:3]):
        scores = key[b, h] @ query[b, h, i] / math.sqrt(q.shape[-1]) + offset[h, i]
        weights = np.exp(scores - scores.max())
        out[b, h, i] = weights @ value[b, h] / weights.sum()
    return torch.from_numpy(out)


def window_attention(
    dtype: torch.dtype, attn_type: str, *, window: int = 8, bias: float = 1.0, heads: int = 2
) -> WindowAttention:
    """16 channels, and a bias that matters."""
    layer = WindowAttention(16, window, heads, attn_type)
    fill(layer)
    with torch.no_grad():
        layer.relative_position_bias.mul_(bias)
    return layer.to(DEVICE, dtype)


def features(height: int, width: int, dtype: torch.dtype, *, batch: int = 2) -> Tensor:
    x = torch.randn(batch, 16, height, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return x.to(DEVICE, dtype)


def test_naive_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 6, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    bias = torch.randn(3, 6, 6, generator=generator, dtype=torch.float64)
    assert_close(naive_attention(q, k, v, bias, 0.0), by_hand(q, k, v, bias))


@pytest.mark.parametrize("w", [1, 2, 5, 8])
def test_position_bias_is_key_minus_query(w: int) -> None:
    layer = window_attention(torch.float64, "Naive", window=w)
    table, bias = layer.relative_position_bias.detach(), layer.position_bias().detach()
    for i in range(w * w):
        for j in range(w * w):
            dy, dx = j // w - i // w, j % w - i % w
            assert torch.equal(bias[:, i, j], table[:, (dy + w - 1) * (2 * w - 1) + dx + w - 1])


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("attn_type", EXACT)
@pytest.mark.parametrize("name", ONE_PER_CLASS)
def test_networks_agree_with_naive(name: str, attn_type: str, dtype: torch.dtype) -> None:
    """The one network under all backends: the switch is read at call time."""
    network, x = SMALL[name].filled(dtype), image(19, 11, batch=2, dtype=dtype)
    results: dict[str, tuple[Tensor, list[Tensor]]] = {}
    for backend in ("Naive", attn_type):
        network.attn_type = backend
        with torch.no_grad():
            out = network(x)
        network.zero_grad()
        network(x).square().mean().backward()
        grads = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        results[backend] = (out, grads)
    (expected, expected_grads), (out, grads) = results["Naive"], results[attn_type]
    assert_close(out, expected)
    for found, wanted in zip(grads, expected_grads, strict=True):
        assert_close(found, wanted, tolerance=1e-9 if dtype is torch.float64 else 1e-3)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("attn_type", [*EXACT, "Flash"])
@pytest.mark.parametrize("size", [(8, 8), (3, 17)])
def test_layer_forward_and_backward(size: tuple[int, int], attn_type: str, dtype: torch.dtype) -> None:
    """Where the bias is trained, Flash too is exact."""
    results = []
    for backend in ("Naive", attn_type):
        layer, x = window_attention(dtype, backend, bias=5.0), features(*size, dtype).requires_grad_()
        out = layer(x)
        out.square().sum().backward()
        assert x.grad is not None
        results.append((out.detach(), x.grad, {name: p.grad for name, p in layer.named_parameters()}))
    (expected, expected_dx, expected_dp), (out, dx, dp) = results
    assert_close(out, expected)
    assert_close(dx, expected_dx)
    for name, wanted in expected_dp.items():
        found = dp[name]
        assert wanted is not None
        assert found is not None
        assert_close(found, wanted, tolerance=1e-9 if dtype is torch.float64 else 1e-4, what=name)


def test_backends_really_differ_in_what_runs() -> None:
    """Else agreement would prove nothing: rounding must differ between the backends."""
    x = features(32, 32, torch.float32)
    backends = "Naive", "SDPA", "Flex", "Flash"
    with torch.no_grad():
        # Of 8 channels; on a GPU of 16, fewer than which Flex does not take.
        heads = 2 if DEVICE.type == "cpu" else 1
        outputs = [window_attention(torch.float32, backend, heads=heads)(x) for backend in backends]
    for i, a in enumerate(outputs):
        for b in outputs[:i]:
            assert not torch.equal(a, b)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3])
@torch.no_grad()
def test_flash_keeps_its_bound(tolerance: float, dtype: torch.dtype) -> None:
    """The scores are off by no more than stated, and the output by no more than follows from it."""
    exact, flash = window_attention(dtype, "Naive"), window_attention(dtype, "Flash")
    flash.flash_tolerance = tolerance
    factors, bias = flash.flash_factors(), exact.position_bias().double().cpu()
    approximation = (factors.left.double() @ factors.right.double().mT).cpu()
    error = float((approximation - bias).abs().max())
    assert error == pytest.approx(factors.max_error, rel=1e-2, abs=1e-6)
    assert error <= tolerance * 1.001
    x = features(24, 24, dtype)
    values: list[Tensor] = []
    exact.to_qkv.register_forward_hook(lambda _m, _i, out: values.append(out[:, 32:]))
    inner: dict[str, Tensor] = {}
    for name, layer in (("exact", exact), ("flash", flash)):
        layer.to_out.register_forward_pre_hook(lambda _m, args, name=name: inner.__setitem__(name, args[0]))
        layer(x)
    worst = float((inner["exact"] - inner["flash"]).abs().max())
    assert 0 < worst <= factors.output_bound * float(values[0].abs().max()) + 1e-5


@torch.no_grad()
def test_flash_rank_follows_the_tolerance() -> None:
    layer = window_attention(torch.float64, "Flash")
    ranks = []
    for tolerance in (1.0, 0.3, 0.1, 0.03):
        layer.flash_tolerance = tolerance
        ranks.append(layer.flash_factors().rank)
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[-1]


@torch.no_grad()
def test_flash_runs_exactly_where_the_bound_is_out_of_reach() -> None:
    """Noise has full rank, here above the width that a kernel can take; a warning says so."""
    layer = WindowAttention(16, 32, 2, "Flash").to(DEVICE)
    layer.relative_position_bias.normal_(generator=None)
    layer.flash_tolerance = 1e-4
    exact = WindowAttention(16, 32, 2, "SDPA").to(DEVICE)
    exact.load_state_dict(layer.state_dict())
    x = features(32, 32, torch.float32, batch=1)
    with pytest.warns(UserWarning, match="rank"):
        found = layer(x)
    assert torch.equal(found, exact(x))


@torch.no_grad()
def test_flash_of_a_smooth_bias_has_low_rank() -> None:
    """A bias that falls off smoothly with the distance: a parabola has rank 4, a bell not much more."""
    w = 16
    offsets = torch.arange(1 - w, w, dtype=torch.float64)
    squared = offsets[:, None].square() + offsets[None, :].square()
    layer = WindowAttention(16, w, 2, "Flash").to(DEVICE, torch.float64)
    layer.relative_position_bias.copy_(torch.stack([-0.02 * squared, (-squared / 50).exp()]).flatten(1))
    assert layer.flash_factors().rank <= 32
    assert layer.flash_factors().max_error <= layer.flash_tolerance
    x = features(40, 20, torch.float64)
    out = layer(x)
    layer.attn_type = "Naive"
    assert_close(out, layer(x), tolerance=layer.flash_factors().output_bound)


@torch.no_grad()
def test_flash_leaves_the_random_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    layer = window_attention(torch.float32, "Flash")
    torch.manual_seed(0)
    layer.flash_factors()
    assert torch.equal(torch.rand(3), expected)


def test_factors_are_exact_at_full_rank() -> None:
    bias = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(1))
    factors = factor_bias(bias, tolerance=0.0, max_rank=9)
    assert_close(factors.left @ factors.right.mT, bias, tolerance=1e-5)
    assert factors.rank == 9


def test_fresh_bias_needs_no_rank_at_all() -> None:
    """0.001 of noise is below any tolerance worth naming: Flash then is plain FlashAttention."""
    factors = WindowAttention(16, 8, 2, "Flash").flash_factors()
    assert factors.rank == 0
    assert 0 < factors.max_error < 0.01


@pytest.mark.parametrize(
    "spelling", ["Naive", "naive", "SDPA", "sdpa", "Flex", "FLEX", "flash", "Auto", "triton"]
)
@pytest.mark.parametrize("name", ["LMLT", "ESC"])
def test_spellings(name: str, spelling: str) -> None:
    network = SMALL[name].build(attn_type=spelling)
    assert network.attn_type.lower() == spelling.lower()
    other = SMALL[name].build()
    assert other.attn_type == "auto"
    other.attn_type = spelling
    assert other.attn_type == network.attn_type


@pytest.mark.parametrize("wrong", ["", "flex_attention", "Naïve", None, 3])
def test_unknown_backend(wrong: str) -> None:
    for name in ONE_PER_CLASS:
        with pytest.raises(ValueError, match="attn_type"):
            SMALL[name].build(attn_type=wrong)
        network = SMALL[name].build()
        with pytest.raises(ValueError, match="attn_type"):
            network.attn_type = wrong
        assert network.attn_type == "auto"


def test_backend_leaves_no_trace_in_the_state_dict() -> None:
    shapes = [
        {name: v.shape for name, v in SMALL["ESC"].filled(attn_type=b).state_dict().items()}
        for b in ("Naive", "SDPA", "Flex", "Flash", "Triton", "auto")
    ]
    assert all(s == shapes[0] for s in shapes)


def test_no_warnings_in_ordinary_use() -> None:
    x = image(8, 8, dtype=torch.float32)
    for backend in ("auto", "Naive", "SDPA", "Flex"):
        network: archs.SRNetwork = SMALL["ESC"].filled(torch.float32, attn_type=backend)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            network(x).mean().backward()
            with torch.no_grad():
                network(x)
