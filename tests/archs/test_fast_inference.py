"""Inference by fused kernels computes what the readable networks define."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import reference
import torch
from helpers.small.networks import SMALL, Small
from torch import Tensor, nn

from lmlt_arch.archs.common import fused
from lmlt_arch.archs.common.attention import BACKENDS
from lmlt_arch.archs.esc import cpu as esc_cpu
from lmlt_arch.archs.esc.blocks import ConvFFN, ESCBlock
from lmlt_arch.archs.lmlt import cpu as lmlt_cpu
from lmlt_arch.archs.lmlt.blocks import CCM, LMLTBlock

Network = TypeVar("Network", bound=nn.Module)

# More than the small networks of all tests have: channels that no vector holds, a large kernel of one pixel.
CASES = {
    **SMALL,
    "LMLT-5-channels-a-level": Small("LMLT", {"dim": 20, "n_blocks": 2, "upscaling_factor": 3}),
    "ESC-point": Small("ESC", {**SMALL["ESC"].kwargs, "kernel_size": 1}),
}
# The fast paths, by the blocks that they stand in for.
FAST_BLOCKS: dict[type[nn.Module], str] = {LMLTBlock: "lmlt", ESCBlock: "esc"}

pytestmark = pytest.mark.skipif(not fused._available(), reason="this PyTorch has no such kernels")


def fast_paths(network: nn.Module) -> set[str]:
    """The fast paths that a network of these blocks should take; none where its blocks have none."""
    return {FAST_BLOCKS[type(module)] for module in network.modules() if type(module) in FAST_BLOCKS}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Small:
    """Every small network in turn."""
    return CASES[request.param]


def randomized(network: Network) -> Network:
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
@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 130, 71), (3, 5, 9), (1, 1, 1), (5, 16, 20)])
def test_the_plain_reference_agrees(case: Small, shape: tuple[int, int, int], fast_calls: list[str]) -> None:
    network, plain = randomized(case.build()), reference.NETWORKS[case.arch](**case.kwargs).eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    batch, height, width = shape
    lq = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert_same(network(lq), plain(lq))
    assert set(fast_calls) == fast_paths(network)


def test_blocks_of_its_own_are_refused(case: Small, fast_calls: list[str]) -> None:
    """A subclass may compute anything."""
    network = randomized(case.build())
    for module in network.modules():
        if type(module) in FAST_BLOCKS:
            module.__class__ = type("Own", (type(module),), {})
    assert not fast_paths(network)
    with torch.no_grad():
        network(torch.rand(1, 3, 16, 16))
    assert not fast_calls


@pytest.mark.usefixtures("small_pieces")
def test_inputs_of_any_strides_stay_as_they_are(case: Small) -> None:
    network = randomized(case.build())
    image = torch.rand(2, 40, 33, 3).permute(0, 3, 1, 2)
    kept = image.clone()
    with torch.inference_mode():
        assert_same(network(image), network(image.contiguous()))
        assert_same(network(image[:, :, ::2, ::2]), network(image[:, :, ::2, ::2].contiguous()))
    assert torch.equal(image, kept)


def test_weights_that_change_are_seen(case: Small) -> None:
    network = randomized(case.build())
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
    network = randomized(SMALL["ESC"].build())
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


@pytest.mark.parametrize(
    "why", ["gradients", "training", "hook", "replaced", "float64", "autocast", *BACKENDS]
)
def test_the_readable_network_runs_where_it_must(case: Small, why: str, fast_calls: list[str]) -> None:
    network = randomized(case.build())
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
    assert set(fast_calls) == (fast_paths(network) if why == "auto" else set())
    assert bool(seen) is (why == "hook")
