"""The Triton kernels against readable definitions, interpreted: `test_triton_kernel.py` runs this."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
import triton.language as tl
from helpers.golden_rules import fill
from helpers.numerics import assert_close
from helpers.small_networks import SMALL, image
from torch import Tensor, nn
from triton.runtime import interpreter

from lmlt_arch.archs import ESCFP, LMLT, SRNetwork
from lmlt_arch.archs.common import kernel_dispatch
from lmlt_arch.archs.esc import cuda as esc_cuda
from lmlt_arch.archs.esc.blocks import ConvFFN, SharedKernels, SymmetricKernelNetwork
from lmlt_arch.archs.lmlt import cuda as lmlt_cuda
from lmlt_arch.archs.lmlt import window_attention
from lmlt_arch.archs.lmlt.blocks import CCM, LevelAttention
from lmlt_arch.archs.lmlt.window_attention import attend_windows, attend_windows_backward
from lmlt_arch.inference.engine.shared_averages import SharedStatistics

# Nothing else runs in this process: the interpreter puts its functions in the place of the language's once,
# not anew, one around the other, for every call of a function. Nor does it make a table of types each time.
interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
interpreter._patch_lang = lambda _function: interpreter._LangPatchScope()
type_of = interpreter._get_np_dtype
known_type_of = functools.cache(type_of)
interpreter._get_np_dtype = lambda kind: (type_of if kind.scalar.is_ptr() else known_type_of)(kind.scalar)

CALLS = torch.profiler.ProfilerActivity.CPU
# Of the largest value. Half precision rounds what lies between kernels, and factors of products.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    assert kernel_dispatch.interpreted()
    torch.manual_seed(0)
    # Memory that nothing was written to holds NaN.
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def upscale_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer programs, since the interpreter takes as long for large ones as for small ones."""
    monkeypatch.setitem(window_attention.ATTEND, "WINDOWS", 3)
    monkeypatch.setitem(lmlt_cuda.AGGREGATE, "NUMBERS", 1 << 16)
    monkeypatch.setitem(lmlt_cuda.MERGE, "PIXELS", 4096)


@pytest.fixture
def fast_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For which networks the kernels of whole blocks ran."""
    calls: list[str] = []

    def counted(name: str, path: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: object) -> Tensor:
            calls.append(name)
            return path(*args)

        return call

    monkeypatch.setattr(lmlt_cuda, "run_blocks", counted("LMLT", lmlt_cuda.run_blocks))
    monkeypatch.setattr(esc_cuda, "run_blocks", counted("ESC", esc_cuda.run_blocks))
    return calls


def operator_calls(call: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Output, and how often the operator for training ran for it."""
    with torch.profiler.profile(activities=[CALLS]) as profile:
        out = call()
    return out, sum(event.name == "lmlt_arch::attend_windows" for event in profile.events())


def noise(batch: int, channels: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """A map whose images differ in their averages.

    Half precision comes in the strides that kernels work in, float32 in others.
    """
    x = torch.randn(width, batch, 2 * channels, height).permute(1, 2, 3, 0)[:, ::2]
    x += torch.randn(batch, channels, 1, 1)
    return x if dtype is torch.float32 else x.to(dtype, memory_format=torch.channels_last)


def exact(module: nn.Module) -> Any:
    """A readable copy in float64."""
    copied = copy.deepcopy(module).double()
    for each in copied.modules():
        if hasattr(each, "attn_type"):
            each.attn_type = "Naive"
    return copied


# Dims that are a multiple of 16, where nothing is padded, and that are not. Hidden channels of one tile and,
# 72 of them, of two.
@pytest.mark.parametrize(
    ("dim", "batch", "cols", "dtype", "options"),
    [
        (36, 2, 1, torch.float32, {}),
        (16, 1, 1, torch.float32, {"n_blocks": 2, "ffn_scale": 1.7, "low_to_high": False}),
        (4, 1, 2, torch.float32, {}),
        (36, 1, 1, torch.bfloat16, {"ffn_scale": 1.7}),
    ],
)
@torch.no_grad()
def test_lmlt_blocks(
    dim: int,
    batch: int,
    cols: int,
    dtype: torch.dtype,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The smallest has the tiles of a GPU.
    if dim > 4:
        upscale_tiles(monkeypatch)
    network = fill(LMLT(dim, **{"n_blocks": 1, **options})).eval()
    network = network.to(dtype=dtype, memory_format=torch.channels_last)
    x = noise(batch, dim, 64, 64 * cols, dtype)
    kept = x.clone()
    out = lmlt_cuda.run_blocks(cast(Any, network.feats), x)
    assert out.dtype is dtype
    assert torch.equal(x, kept)
    expected = x.double()
    for block in exact(network).feats:
        expected = block(expected, 1, cols)
    assert_close(out, expected, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("rows", [150, 64, 20])
@torch.no_grad()
def test_the_mixer_in_pieces(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several images at once, one, some rows of one: the last rows of an image have no others below."""
    monkeypatch.setattr(lmlt_cuda, "MIXED", rows * 64 * 4)
    upscale_tiles(monkeypatch)
    block = cast(Any, fill(LMLT(4, n_blocks=1)).feats[0])
    x, normed = torch.randn(2, 3, 64, 64, 4)
    run = lmlt_cuda._Run(x.clone())
    run.normed.zero_()[..., :4] = normed
    run.mix(block, F.pad(block.ccm.ccm[0].weight, (0, 0, 0, 0, 0, 12)))
    expected = x + block.ccm(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert_close(run.x, expected, tolerance=TOLERANCE[torch.float32])


def esc(arch: str = "ESC", **kwargs: Any) -> SRNetwork:
    """With windows of 8 x 8 pixels."""
    small = {"pdim": 4, "kernel_size": 5, "n_blocks": 1, "conv_blocks": 1, **kwargs}
    return replace(SMALL["ESC"], arch=arch).filled(torch.float32, attn_type="Triton", **small)


def shared_kernels(network: SRNetwork) -> SharedKernels:
    if isinstance(network, SymmetricKernelNetwork):
        return network.shared_kernels()
    assert isinstance(network, ESCFP)
    return network.lk_channel, network.lk_spatial


# Maps of no whole windows, nor of whole groups of four pixels; of less than a window; of one pixel.
@pytest.mark.parametrize(
    ("arch", "size", "dtype", "options"),
    [
        ("ESC", (19, 13), torch.float32, {"n_blocks": 2}),
        ("ESC", (5, 9), torch.float32, {"use_ln": True, "dim": 24, "pdim": 20}),
        ("ESC", (1, 1), torch.float32, {"kernel_size": 1}),
        ("ESC", (9, 6), torch.float32, {"kernel_size": 1}),
        ("ESCFP", (19, 13), torch.float32, {"conv_blocks": 2}),
        ("ESCFP", (7, 18), torch.float16, {}),
        ("ESCReal", (16, 8), torch.float32, {}),
        ("ESC", (5, 9), torch.bfloat16, {"pdim": 8}),
    ],
)
@torch.no_grad()
def test_esc_blocks(arch: str, size: tuple[int, int], dtype: torch.dtype, options: dict[str, Any]) -> None:
    """Each of two images has a dynamic kernel of its own."""
    network = esc(arch, **options).to(dtype=dtype, memory_format=torch.channels_last)
    x = noise(2, options.get("dim", 16), *size, dtype)
    kept = x.clone()
    out = esc_cuda.run_blocks(cast(Any, network.blocks), x, shared_kernels(network))
    assert out.dtype is dtype
    assert torch.equal(x, kept)
    readable = exact(network)
    expected = x.double()
    for block in readable.blocks:
        expected = block(expected, shared_kernels(readable))
    assert_close(out, expected, tolerance=TOLERANCE[dtype])


@torch.no_grad()
def test_esc_in_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of larger maps and windows: what is done piece by piece there is here, too."""
    sizes: list[tuple[dict[str, int], dict[str, int]]] = [
        (esc_cuda.BIAS, {"KEYS": 64}),
        (esc_cuda.LARGE, {"GROUPS": 16, "SOURCES": 32}),
        (esc_cuda.LINEAR, {"TARGETS": 16}),
        (esc_cuda.PREDICT, {"TILES": 1}),
    ]
    for config, changed in sizes:
        for name, value in changed.items():
            monkeypatch.setitem(config, name, value)
    network, x = esc(window_size=10), noise(2, 16, 13, 9, torch.float32)
    out = esc_cuda.run_blocks(cast(Any, network.blocks), x, shared_kernels(network))
    readable = exact(network)
    assert_close(out, readable.blocks[0](x.double(), shared_kernels(readable)), tolerance=1e-6)


@torch.no_grad()
def test_tiles_share_averages(fast_calls: list[str]) -> None:
    network, x = esc(conv_blocks=2), image(9, 7, batch=2, dtype=torch.float32)
    x[1] /= 4
    tile = x[:1, :, 2:, :6]
    results = []
    for each, dtype in ((network, torch.float32), (exact(network), torch.float64)):
        statistics = SharedStatistics(each)
        with statistics.collected(torch.ones(2, 1, 9, 7)):
            collecting = each(x.to(dtype))
        with statistics.applied():
            results.append((collecting, each(tile.to(dtype))))
    assert fast_calls == ["ESC", "ESC"]
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)
    assert (network(tile) - results[0][1]).abs().max() > 1e-4


@torch.no_grad()
def test_hooks_of_averages_run(fast_calls: list[str]) -> None:
    network, x = esc(), image(5, 6, dtype=torch.float32)
    pool = next(m for m in network.modules() if isinstance(m, nn.AdaptiveAvgPool2d))
    pool.register_forward_pre_hook(lambda _module, inputs: (inputs[0] + 1,))
    assert_close(network(x), exact(network)(x.double()))
    assert fast_calls == ["ESC"]


ONE_BLOCK = {name: replace(SMALL[name], kwargs={**SMALL[name].kwargs, "n_blocks": 1}) for name in SMALL}


@pytest.mark.parametrize(
    ("name", "attn_type", "dtype", "expected"),
    [
        ("LMLT", "Triton", torch.float32, ["LMLT"]),
        ("LMLT", "auto", torch.float16, ["LMLT"]),
        ("ESC", "Triton", torch.float32, ["ESC"]),
        ("ESC", "auto", torch.float32, ["ESC"]),
        ("ESC", "SDPA", torch.float32, []),
        ("ESCRealM-x2", "Triton", torch.bfloat16, ["ESC"]),
    ],
)
def test_networks(
    name: str,
    attn_type: str,
    dtype: torch.dtype,
    expected: list[str],
    fast_calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upscale_tiles(monkeypatch)
    small, x = ONE_BLOCK[name], image(20, 9, dtype=dtype)
    network = small.filled(dtype, attn_type=attn_type)
    with torch.inference_mode():
        assert_close(network(x), small.reference(torch.float64)(x.double()))
    assert fast_calls == expected


class Louder(nn.Conv2d):
    """A user's own convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


REASONS = (
    "gradients",
    "training",
    "float64",
    "autocast",
    "hook",
    "replaced",
    "wide",
    "unlike",
    "order",
    "eps",
)


@pytest.mark.parametrize(("name", "why"), [*product(("LMLT", "ESC"), REASONS), ("ESC", "wide kernel")])
def test_the_readable_network_runs_where_it_must(name: str, why: str, fast_calls: list[str]) -> None:
    sizes = {"wide": {"dim": 132}, "wide kernel": {"dim": 36, "pdim": 33}}.get(why, {})
    network = ONE_BLOCK[name].filled(torch.float32, **sizes)
    x = image(9, 10, dtype=torch.float32)
    blocks = network.get_submodule("feats" if name == "LMLT" else "blocks")
    convolution = next(m for m in blocks.modules() if type(m) is nn.Conv2d)
    seen: list[int] = []
    if why == "training":
        network.train()
    elif why in ("float64", "autocast"):
        # Under autocast, norms of half precision would run in float32.
        dtype = torch.float64 if why == "float64" else torch.bfloat16
        network, x = network.to(dtype), x.to(dtype)
    elif why == "hook":
        convolution.register_forward_hook(lambda *_: seen.append(1))
    elif why == "replaced":
        convolution.__class__ = Louder
    elif why == "unlike":
        pruned = copy.deepcopy(cast(nn.ModuleList, blocks)[0])
        if name == "LMLT":
            pruned.ccm = fill(CCM(16, 20))
        else:
            pruned.proj = fill(ConvFFN(16, 1))
        cast(nn.ModuleList, blocks).append(pruned)
    elif why == "order":
        square = next(m for m in blocks.modules() if type(m) is nn.Conv2d and m.weight.shape[:2] == (16, 16))
        square.weight.data = square.weight.data.transpose(0, 1).contiguous().transpose(0, 1)
    elif why == "eps":
        next(m for m in blocks.modules() if isinstance(m, nn.LayerNorm)).eps = 0.1
    with torch.set_grad_enabled(why == "gradients"), torch.autocast("cpu", enabled=why == "autocast"):
        out = network(x)
    assert not fast_calls
    assert bool(seen) is (why == "hook")
    with torch.no_grad():
        assert_close(out, exact(network)(x.double()), tolerance=8e-2 if why == "autocast" else 1e-5)


def level_attention(width: int, **kwargs: Any) -> LevelAttention:
    options = {"attn_drop_rate": 0.0, "drop_rate": 0.0, "attn_type": "Triton", **kwargs}
    return fill(LevelAttention(width, **options))


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
