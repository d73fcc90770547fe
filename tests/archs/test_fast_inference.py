"""Inference by fused kernels computes what the readable networks define."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from reference import esc, esc_fp, esc_real, lmlt
from torch import Tensor, nn

from lmlt_arch.archs import ESC, ESCFP, LMLT, ESCReal, SRNetwork
from lmlt_arch.archs.common import fused
from lmlt_arch.archs.common.attention import BACKENDS
from lmlt_arch.archs.esc import cpu as esc_cpu
from lmlt_arch.archs.esc.blocks import ConvFFN
from lmlt_arch.archs.lmlt import cpu as lmlt_cpu
from lmlt_arch.archs.lmlt.blocks import CCM

SMALL = {
    "pdim": 4,
    "kernel_size": 5,
    "n_blocks": 2,
    "conv_blocks": 2,
    "window_size": 8,
    "num_heads": 2,
    "upscaling_factor": 2,
}
PAIRS: dict[str, tuple[Callable[[], SRNetwork], Callable[[], nn.Module]]] = {
    "lmlt": (
        lambda: LMLT(20, 2, upscaling_factor=3),
        lambda: lmlt.LMLT(20, 2, upscaling_factor=3),
    ),
    "lmlt_cut": (
        lambda: LMLT(16, 2, low_to_high=False),
        lambda: lmlt.LMLT(16, 2, low_to_high=False),
    ),
    "esc": (lambda: ESC(dim=16, **SMALL), lambda: esc.ESC(dim=16, **SMALL)),
    "esc_ln": (
        lambda: ESC(dim=16, **SMALL, use_ln=True, exp_ratio=1.25),
        lambda: esc.ESC(dim=16, **SMALL, use_ln=True, exp_ratio=1.25),
    ),
    "esc_point": (
        lambda: ESC(dim=16, **{**SMALL, "kernel_size": 1}),
        lambda: esc.ESC(dim=16, **{**SMALL, "kernel_size": 1}),
    ),
    "esc_fp": (lambda: ESCFP(dim=16, **SMALL), lambda: esc_fp.ESCFP(dim=16, **SMALL)),
    "esc_real": (lambda: ESCReal(dim=16, **SMALL), lambda: esc_real.ESCReal(dim=16, **SMALL)),
}

pytestmark = pytest.mark.skipif(not fused._available(), reason="this PyTorch has no such kernels")


def randomized(network: nn.Module) -> nn.Module:
    """Weights with nothing at its neutral value, so that every term shows in the output."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images are cut too."""
    monkeypatch.setattr(fused, "_PIECE", 512)


@pytest.fixture
def fast_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which fast paths ran."""
    calls: list[str] = []

    def counted(name: str, path: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: object, **kwargs: object) -> Tensor:
            calls.append(name)
            return path(*args, **kwargs)

        return call

    monkeypatch.setattr(lmlt_cpu, "run_blocks", counted("lmlt", lmlt_cpu.run_blocks))
    monkeypatch.setattr(esc_cpu, "run_blocks", counted("esc", esc_cpu.run_blocks))
    return calls


def assert_same(actual: Tensor, expected: Tensor) -> None:
    reach = float(expected.max() - expected.min())
    assert float((actual - expected).abs().max()) <= 1e-5 * reach


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 130, 71), (3, 5, 9), (1, 1, 1), (5, 16, 20)])
def test_the_plain_reference_agrees(name: str, shape: tuple[int, int, int], fast_calls: list[str]) -> None:
    make, make_plain = PAIRS[name]
    network, plain = randomized(make()), make_plain().eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    batch, height, width = shape
    lq = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert_same(network(lq), plain(lq))
    assert fast_calls, "the fast path ran"


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", ["lmlt", "esc", "esc_fp"])
def test_inputs_of_any_strides_stay_as_they_are(name: str) -> None:
    network = randomized(PAIRS[name][0]())
    image = torch.rand(2, 40, 33, 3).permute(0, 3, 1, 2)
    kept = image.clone()
    with torch.inference_mode():
        assert_same(network(image), network(image.contiguous()))
        assert_same(network(image[:, :, ::2, ::2]), network(image[:, :, ::2, ::2].contiguous()))
    assert torch.equal(image, kept)


@pytest.mark.parametrize("name", PAIRS)
def test_weights_that_change_are_seen(name: str) -> None:
    network = randomized(PAIRS[name][0]())
    lq = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        network(lq)
        for parameter in network.parameters():
            # As BasicSR's EMA writes: without a trace that a cache could go by.
            parameter.data.mul_(1.1)
        now = network(lq)
        network.attn_type = "Naive"
        assert_same(now, network(lq))


def test_images_of_a_batch_keep_their_own_kernels() -> None:
    network = randomized(PAIRS["esc"][0]())
    dark, light = torch.rand(1, 3, 24, 24) * 0.2, torch.rand(1, 3, 24, 24) * 0.2 + 0.8
    with torch.no_grad():
        together = network(torch.cat((dark, light)))
        assert_same(together[:1], network(dark))
        assert_same(together[1:], network(light))


class Louder(nn.Conv2d):
    """A user's own convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def _replace(network: nn.Module) -> None:
    part = next(m for m in network.modules() if isinstance(m, (CCM, ConvFFN)))
    name, old = next((n, m) for n, m in part.named_modules() if type(m) is nn.Conv2d)
    new = Louder(old.in_channels, old.out_channels, old.kernel_size, padding=old.padding, groups=old.groups)
    owner, _, leaf = name.rpartition(".")
    setattr(part.get_submodule(owner), leaf, randomized(new))


@pytest.mark.parametrize("name", ["lmlt", "esc"])
@pytest.mark.parametrize(
    "why", ["gradients", "training", "hook", "replaced", "float64", "autocast", *BACKENDS]
)
def test_the_readable_network_runs_where_it_must(name: str, why: str, fast_calls: list[str]) -> None:
    network = randomized(PAIRS[name][0]())
    lq = torch.rand(1, 3, 16, 16)
    seen: list[int] = []
    if why == "training":
        network.train()
    elif why == "hook":
        convolutions = [m for m in network.modules() if type(m) is nn.Conv2d]
        convolutions[4].register_forward_hook(lambda *_: seen.append(1))
    elif why == "replaced":
        _replace(network)
    elif why == "float64":
        network.double()
        lq = lq.double()
    elif why in BACKENDS:
        network.attn_type = why
    with torch.set_grad_enabled(why == "gradients"), torch.autocast("cpu", enabled=why == "autocast"):
        network(lq)
    assert bool(fast_calls) is (why == "auto")
    assert bool(seen) is (why == "hook")
