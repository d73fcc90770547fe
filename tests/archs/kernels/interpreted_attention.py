"""Window attention by Triton, for training too, interpreted: `test_triton_kernel.py` runs this."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from helpers.interpreted_kernels import ONE_BLOCK, esc, exact, level_attention, operator_calls
from helpers.numerics import assert_close
from helpers.small.networks import image
from torch import Tensor, nn

from lmlt_arch.archs.lmlt import window_attention
from lmlt_arch.archs.lmlt.blocks import LevelAttention
from lmlt_arch.archs.lmlt.window_attention import attend_windows, attend_windows_backward

pytest_plugins = ("helpers.interpreted_kernels",)


# Of `LevelAttention`, in the order of its parameters.
RESULTS = ("output", "input", *dict(level_attention(4).named_parameters()))


def with_gradients(layer: LevelAttention, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    x.requires_grad_()
    out = layer(x, x.shape[2] // 8, x.shape[3] // 8)
    found = torch.autograd.grad(out, [x, *layer.parameters()], grad.to(out))
    return dict(zip(RESULTS, (out.detach(), *found), strict=True))


# A program of the backward pass takes one window, or three, the last one two, or all eight.
@pytest.mark.parametrize(
    ("width", "layout", "programs"),
    [(4, "quarter", 1024), (9, "planes", 3), (21, "quarter", 1), (21, "planes", 8)],
)
def test_gradients(width: int, layout: str, programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a map of its own, and of a quarter of the channels of a channels-last one."""
    monkeypatch.setattr(window_attention, "_PROGRAMS", programs)
    layer = level_attention(width)
    x = torch.randn(2, width, 16, 16)
    if layout == "quarter":
        x = torch.randn(2, 16, 16, 4 * width).permute(0, 3, 1, 2).chunk(4, 1)[1]
    grad = torch.randn(2, width, 16, 16)
    expected = with_gradients(exact(layer), x.detach().double(), grad.double())
    found = with_gradients(layer, x, grad)
    for name, value in expected.items():
        assert_close(found[name], value, tolerance=2e-6, what=name)


def test_gradients_under_autocast() -> None:
    """Weights, and so their gradients, stay in float32."""
    layer, x, grad = level_attention(9), torch.randn(1, 9, 16, 8), torch.randn(1, 9, 16, 8)
    expected = with_gradients(exact(layer), x.double(), grad.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(layer, x, grad)
    assert found.pop("output").dtype is torch.bfloat16
    for name, value in found.items():
        assert value.dtype is torch.float32
        assert_close(value, expected[name], tolerance=3e-2, what=name)


@pytest.mark.parametrize("name", ["level", "ESC"])
def test_weights_in_any_order(name: str) -> None:
    """As `load_state_dict` with `assign` takes them from a file."""
    layer, network = level_attention(9), esc()
    turned = layer.proj if name == "level" else network.get_submodule("blocks.0.attn.to_out")
    turned.weight.data = turned.weight.data.transpose(0, 1).contiguous().transpose(0, 1)
    if name == "level":
        x = torch.randn(1, 9, 8, 8)
        assert_close(layer(x, 1, 1), exact(layer)(x.double(), 1, 1))
    else:
        with torch.no_grad():
            x = image(9, 10, dtype=torch.float32)
            assert_close(network(x), exact(network)(x.double()))


def test_training_of_lmlt_runs_the_operator(fast_calls: list[str]) -> None:
    small, x = ONE_BLOCK["LMLT"], image(20, 9, dtype=torch.float32)
    network = small.filled(torch.float32, attn_type="Triton").train()
    out, calls = operator_calls(lambda: network(x))
    assert calls == 4
    assert not fast_calls
    reference = small.reference(torch.float64)
    expected = reference(x.double())
    assert_close(out, expected)
    for result in (out, expected):
        result.square().mean().backward()
    for name, wanted in reference.named_parameters():
        found = network.get_parameter(name)
        assert_close(cast(Tensor, found.grad), cast(Tensor, wanted.grad), what=name)


@pytest.mark.parametrize(("half", "expected"), [(True, 4), (False, 0)])
def test_auto_trains_by_kernels_in_half_precision(half: bool, expected: int) -> None:
    network, x = ONE_BLOCK["LMLT"].filled(torch.float32).train(), image(9, 9, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        _, calls = operator_calls(lambda: network(x))
    assert calls == expected


def test_gradients_that_disagree_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU whose compiler goes wrong: what compares there is run here."""
    found: list[bool] = []

    def compared(_block: nn.Module, x: Tensor, fast: Any, slow: Any, **_: object) -> bool:
        noise = torch.randn(1, x.shape[1], 8, 8)
        found.append(torch.allclose(fast(noise), slow(noise.detach()), atol=1e-4))
        return found[-1]

    monkeypatch.setattr(window_attention, "agree", compared)
    layer, x = level_attention(9), torch.randn(1, 9, 8, 8)
    grads = window_attention.attend_windows_backward
    for wrong in (False, True):
        window_attention._compared.cache_clear()
        if wrong:
            monkeypatch.setattr(
                window_attention, "attend_windows_backward", lambda *a: tuple(2 * g for g in grads(*a))
            )
        _, calls = operator_calls(lambda: layer(x, 1, 1))
        assert calls == (1 if wrong else 2), "the trial, and what it allows"
    assert found == [True, False]
    window_attention._compared.cache_clear()


@pytest.mark.parametrize("why", ["no gradients", "dropout", "float64", "wide", "hook", "replaced"])
def test_the_readable_attention_runs_where_it_must(why: str) -> None:
    layer = level_attention(33 if why == "wide" else 9, attn_drop_rate=0.5 if why == "dropout" else 0.0)
    x = torch.randn(1, layer.proj.in_features, 8, 8)
    seen: list[int] = []
    if why == "float64":
        layer, x = layer.double(), x.double()
    elif why == "hook":
        layer.qkv.register_forward_hook(lambda *_: seen.append(1))
    elif why == "replaced":
        layer.proj = nn.Sequential(layer.proj, nn.GELU())
    with torch.set_grad_enabled(why != "no gradients"):
        torch.manual_seed(1)
        out, calls = operator_calls(lambda: layer(x, 1, 1))
        assert calls == 0
        assert bool(seen) is (why == "hook")
        layer.attn_type = "SDPA"
        torch.manual_seed(1)
        assert torch.equal(out, layer(x, 1, 1))


def test_compiles_in_one_graph() -> None:
    layer = level_attention(9)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for x in (torch.randn(1, 9, 8, 16), torch.randn(2, 9, 16, 8)):
        grad = torch.randn_like(x)
        compiled(x, x.shape[2] // 8, x.shape[3] // 8)
        _, calls = operator_calls(lambda x=x: compiled(x, x.shape[2] // 8, x.shape[3] // 8))
        assert calls == 1
        found = with_gradients(compiled, x, grad)
        for name, value in with_gradients(layer, x.detach(), grad).items():
            assert_close(found[name], value, what=name)


def test_exported_programs_do_without(fast_calls: list[str]) -> None:
    network = ONE_BLOCK["LMLT"].filled(torch.float32, attn_type="Triton")
    program = torch.export.export(network, (image(9, 10, dtype=torch.float32),))
    assert "attend_windows" not in str(program.graph)
    assert not fast_calls


def inputs(width: int, *shape: int) -> list[Tensor]:
    """Those of the operator, of a map (*shape, width)."""
    layer = level_attention(width)
    weights = (layer.qkv, layer.get_v, layer.proj)
    tensors = [torch.randn(*shape, width), *(t for m in weights for t in (m.weight, m.bias))]
    return [t.detach() for t in tensors]


def test_operators() -> None:
    """Schemas, shape rules and tracing of the custom operators, by PyTorch's own test."""
    z, *weights = (t.requires_grad_() for t in inputs(4, 1, 8, 8))
    torch.library.opcheck(attend_windows, (z, *weights))
    backward = tuple(t.detach() for t in (torch.randn_like(z), z, *weights[:5]))
    torch.library.opcheck(attend_windows_backward, backward)


def test_one_window_does_not_see_the_next() -> None:
    """Nor what lies between its pixels."""
    z, *weights = inputs(9, 1, 8, 16)
    expected = attend_windows(z, *weights)[:, :, :8]
    spread = torch.full((1, 8, 16, 30), torch.nan)
    spread[..., 20:29] = z
    spread[:, :, 8:] = torch.inf
    view = spread[..., 20:29]
    assert torch.equal(attend_windows(view, *weights)[:, :, :8], expected)
    grad = torch.randn(1, 8, 16, 9)
    expected, _ = attend_windows_backward(grad, z, *weights[:5])
    found, _ = attend_windows_backward(grad, view, *weights[:5])
    assert torch.equal(found[:, :, :8], expected[:, :, :8])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_large_scores(dtype: torch.dtype) -> None:
    """Scores of many thousands, beyond float16's range and far beyond where exp overflows float32."""
    layer = level_attention(15)
    # Integers, whose products are exact, and so are ties.
    x = (torch.randn(1, 15, 8, 8) * 3).round()
    with torch.no_grad():
        layer.qkv.bias.zero_()
        layer.qkv.weight[:30] = torch.eye(15).repeat(2, 1) * 64
    layer, x = layer.to(dtype), x.to(dtype)
    tokens = x.double().flatten(2) * 64
    assert (tokens.mT @ tokens).abs().max() > 2 * torch.finfo(torch.float16).max
    grad = torch.randn(1, 15, 8, 8)
    expected = with_gradients(exact(layer), x.double(), grad.double())
    found = with_gradients(layer, x, grad)
    for name in ("output", "proj.weight", "get_v.weight"):
        assert_close(found[name], expected[name], tolerance=1e-6 if dtype is torch.float32 else 4e-3)


def test_equal_scores() -> None:
    """All keys count alike."""
    z, qkv_weight, qkv_bias, local_weight, local_bias, _, proj_bias = inputs(9, 1, 8, 8)
    qkv_weight[:9] = qkv_bias[:9] = 0
    others = (
        torch.zeros_like(local_weight),
        torch.zeros_like(local_bias),
        torch.eye(9),
        torch.zeros_like(proj_bias),
    )
    out = attend_windows(z, qkv_weight, qkv_bias, *others)
    v = F.linear(z, qkv_weight[18:], qkv_bias[18:])
    assert_close(out, v.mean((1, 2), keepdim=True).expand_as(v), tolerance=2e-6)
