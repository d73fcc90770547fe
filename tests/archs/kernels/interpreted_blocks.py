"""Whole blocks by Triton against readable definitions, interpreted: `test_triton_kernel.py` runs this."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from helpers.golden_rules import fill
from helpers.interpreted_kernels import ONE_BLOCK, TOLERANCE, esc, exact
from helpers.numerics import assert_close
from helpers.small.networks import image
from torch import Tensor, nn

from lmlt_arch.archs import ESCFP, LMLT, SRNetwork
from lmlt_arch.archs.esc import cuda as esc_cuda
from lmlt_arch.archs.esc.blocks import ConvFFN, SharedKernels, SymmetricKernelNetwork
from lmlt_arch.archs.lmlt import cuda as lmlt_cuda
from lmlt_arch.archs.lmlt import window_attention
from lmlt_arch.archs.lmlt.blocks import CCM
from lmlt_arch.inference.engine.shared_averages import SharedAverages

pytest_plugins = ("helpers.interpreted_kernels",)


def upscale_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer programs, since the interpreter takes as long for large ones as for small ones."""
    monkeypatch.setitem(window_attention.ATTEND, "WINDOWS", 3)
    monkeypatch.setitem(lmlt_cuda.AGGREGATE, "NUMBERS", 1 << 16)
    monkeypatch.setitem(lmlt_cuda.MERGE, "PIXELS", 4096)


def noise(batch: int, channels: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """A map whose images differ in their averages.

    Half precision comes in the strides that kernels work in, float32 in others.
    """
    x = torch.randn(width, batch, 2 * channels, height).permute(1, 2, 3, 0)[:, ::2]
    x += torch.randn(batch, channels, 1, 1)
    return x if dtype is torch.float32 else x.to(dtype, memory_format=torch.channels_last)


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
        statistics = SharedAverages(each)
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
