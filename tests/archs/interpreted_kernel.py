"""The Triton kernel against a plain definition, interpreted: `test_triton_kernel.py` runs this."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from numerics import assert_close
from small_networks import SMALL, image
from torch import Tensor

from lmlt_arch import LMLT
from lmlt_arch.archs.kernels import window_attention_triton as kernel
from lmlt_arch.archs.kernels.window_attention import attend_windows
from lmlt_arch.archs.lmlt_arch import LevelAttention

CALLS = torch.profiler.ProfilerActivity.CPU


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    assert kernel.INTERPRETED
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def random_inputs(
    width: int, dtype: torch.dtype, *, batch: int = 1, rows: int = 1, cols: int = 1
) -> list[Tensor]:
    """qkv, weight and bias of the positional term."""
    shapes = (batch, 8 * rows, 8 * cols, 3 * width), (width, 1, 3, 3), (width,)
    return [torch.randn(shape, dtype=torch.float64).to(dtype) for shape in shapes]


def plainly(qkv: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One window after the other, in float64."""
    q, k, v = qkv.double().chunk(3, -1)
    out = torch.empty_like(v)
    for b in range(qkv.shape[0]):
        for top in range(0, qkv.shape[1], 8):
            for left in range(0, qkv.shape[2], 8):
                place = (b, slice(top, top + 8), slice(left, left + 8))
                query, key, value = (t[place].flatten(0, 1) for t in (q, k, v))
                weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
                plane = v[place].permute(2, 0, 1)
                lepe = F.conv2d(plane, weight.double(), bias.double(), padding=1, groups=len(plane))
                out[place] = (weights @ value).reshape(8, 8, -1) + lepe.permute(1, 2, 0)
    return out


def kernel_runs(call: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Output, and how often the kernel ran for it."""
    with torch.profiler.profile(activities=[CALLS]) as profile:
        out = call()
    return out, sum(event.name == "lmlt_arch::attend_windows" for event in profile.events())


# One, odd numbers (the last program has a window too few), several images.
@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 1, 3), (3, 2, 1), (2, 2, 2)])
@pytest.mark.parametrize("width", [9, 15, 21])
def test_window_counts(width: int, counts: tuple[int, int, int]) -> None:
    batch, rows, cols = counts
    inputs = random_inputs(width, torch.float32, batch=batch, rows=rows, cols=cols)
    assert_close(attend_windows(*inputs), plainly(*inputs), tolerance=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("width", [1, 4, 9, 15, 16, 17, 21, 32])
def test_widths_and_dtypes(width: int, dtype: torch.dtype) -> None:
    inputs = random_inputs(width, dtype)
    out = attend_windows(*inputs)
    assert out.dtype is dtype
    # Half precision: the rounding of the softmax weights and of the result, once each.
    assert_close(out, plainly(*inputs), tolerance=1e-6 if dtype is torch.float32 else torch.finfo(dtype).eps)


def test_weights_of_another_dtype() -> None:
    """As under autocast, which leaves parameters in float32."""
    qkv, weight, bias = random_inputs(9, torch.float32)
    qkv = qkv.bfloat16()
    assert_close(attend_windows(qkv, weight, bias), plainly(qkv, weight, bias), tolerance=2**-7)


@pytest.mark.parametrize("windows", [config.kwargs["WINDOWS"] for config in kernel.CONFIGS])
def test_every_number_of_windows_per_program(windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = kernel.triton.autotune([kernel.triton.Config({"WINDOWS": windows})], key=[])
    monkeypatch.setattr(kernel, "tuned_kernel", chosen(kernel.attend_windows_kernel))
    inputs = random_inputs(9, torch.float32, rows=3, cols=1)
    assert_close(attend_windows(*inputs), plainly(*inputs), tolerance=1e-6)


def test_strides() -> None:
    """Planes, every second column, a part of larger rows, one image for all, and weights in any order."""
    qkv, weight, bias = random_inputs(9, torch.float32, batch=2, rows=1, cols=2)
    expected = plainly(qkv, weight, bias)
    planes = qkv.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    spread = torch.full((2, 8, 32, 30), torch.nan)
    spread[:, :, ::2, 2:29] = qkv
    for view in (planes, spread[:, :, ::2, 2:29]):
        assert not view.is_contiguous()
        assert_close(attend_windows(view, weight, bias), expected, tolerance=1e-6)
    one = qkv[:1].expand(2, -1, -1, -1)
    assert_close(attend_windows(one, weight, bias), expected[:1].expand(2, -1, -1, -1), tolerance=1e-6)
    weight = weight.transpose(2, 3).contiguous().transpose(2, 3)
    assert_close(attend_windows(qkv, weight, bias), expected, tolerance=1e-6)


def test_one_window_does_not_see_the_next() -> None:
    """Nor does padding: what lies beyond the channels is not read."""
    qkv, weight, bias = random_inputs(9, torch.float32, cols=2)
    expected = attend_windows(qkv, weight, bias)[:, :, :8]
    qkv[:, :, 8:] = torch.inf
    assert torch.equal(attend_windows(qkv, weight, bias)[:, :, :8], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_large_scores(dtype: torch.dtype) -> None:
    """Scores of many thousands, beyond float16's range and far beyond where exp overflows float32."""
    qkv, weight, bias = random_inputs(15, dtype)
    # Squares of integers: the products are exact, and so are ties.
    qkv[..., :30] = (qkv[..., :30] * 3).round() * 64
    scores = qkv[..., :15].double().flatten(0, 2) @ qkv[..., 15:30].double().flatten(0, 2).mT
    assert scores.abs().max() > 2 * torch.finfo(torch.float16).max
    tolerance = 1e-6 if dtype is torch.float32 else 2e-3
    assert_close(attend_windows(qkv, weight, bias), plainly(qkv, weight, bias), tolerance=tolerance)


def test_equal_scores() -> None:
    qkv, weight, bias = random_inputs(9, torch.float32)
    qkv[..., :9] = 0
    v = qkv[..., 18:].flatten(1, 2)
    out = attend_windows(qkv, torch.zeros_like(weight), torch.zeros_like(bias))
    assert_close(out.flatten(1, 2), v.mean(1, keepdim=True).expand_as(v), tolerance=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_layer(dtype: torch.dtype) -> None:
    """The readable forward is the definition; channels-last maps come out channels-last."""
    layer = level_attention().to(dtype)
    x = torch.randn(2, 9, 8, 24).to(dtype)
    with torch.inference_mode():
        out, runs = kernel_runs(lambda: layer(x, 1, 3))
    assert runs == 1
    assert out.is_contiguous(memory_format=torch.channels_last)
    layer.attn_type = "Naive"
    assert_close(out, layer(x, 1, 3), tolerance=1e-6 if dtype is torch.float32 else 3e-2)


def test_network() -> None:
    network, x = small_lmlt(), image(20, 9, dtype=torch.float32)
    out, runs = kernel_runs(lambda: network(x))
    assert runs == 4
    network.attn_type = "Naive"
    assert_close(out, network(x))


def level_attention() -> LevelAttention:
    return LevelAttention(9, attn_drop_rate=0.0, drop_rate=0.0, attn_type="Triton").eval()


def small_lmlt(**kwargs: float) -> LMLT:
    return LMLT(4, 1, upscaling_factor=2, attn_type="Triton", **kwargs).eval()


def test_compiles_in_one_graph() -> None:
    layer = level_attention()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows, cols in ((1, 2), (2, 1)):
        x = torch.randn(1, 9, 8 * rows, 8 * cols)
        compiled(x, rows, cols)
        out, runs = kernel_runs(partial(compiled, x, rows, cols))
        assert runs == 1
        assert_close(out, layer(x, rows, cols))


def test_operator() -> None:
    """Schema, shape rule and tracing of the custom operator, by PyTorch's own test."""
    torch.library.opcheck(attend_windows, tuple(random_inputs(4, torch.float32)))


@pytest.mark.parametrize("case", ["gradient", "input gradient", "dropout", "float64", "wide", "ESC"])
def test_falls_back(case: str) -> None:
    network, x = small_lmlt(), image(8, 8, dtype=torch.float32)
    with torch.set_grad_enabled("gradient" in case):
        if case == "input gradient":
            network.requires_grad_(False)
            x.requires_grad_()
        elif case == "dropout":
            network = small_lmlt(attn_drop_rate=0.5).train()
        elif case == "float64":
            network, x = network.double(), x.double()
        elif case == "wide":
            network = LMLT(132, 1, upscaling_factor=2, attn_type="Triton").eval()
        elif case == "ESC":
            network = SMALL["ESC"].filled(torch.float32, attn_type="Triton")
        torch.manual_seed(1)
        out, runs = kernel_runs(partial(network, x))
        assert runs == 0
        network.attn_type = "SDPA"
        torch.manual_seed(1)
        assert torch.equal(out, network(x))
        assert out.requires_grad is ("gradient" in case)


def test_exported_programs_do_without() -> None:
    program = torch.export.export(level_attention(), (torch.randn(1, 9, 8, 8), 1, 1))
    assert "attend_windows" not in str(program.graph)
