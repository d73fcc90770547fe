"""Copies and reloaded networks are independent and use their own parameters, whatever the backend."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.numerics import assert_close
from helpers.small.networks import ONE_PER_CLASS, SMALL, Small, image

from lmlt_arch import archs

BACKENDS = ["auto", "Naive", "SDPA", "Flex", "Flash", "Triton"]
WITH_BIAS = [name for name in ONE_PER_CLASS if name != "LMLT"]


def scale_bias(network: archs.SRNetwork, factor: float) -> None:
    """Change nothing but the relative position biases."""
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.endswith("relative_position_bias"):
                p.mul_(factor)


@pytest.mark.parametrize("attn_type", BACKENDS)
@pytest.mark.parametrize("name", WITH_BIAS)
@torch.no_grad()
def test_a_deep_copy_has_its_own_bias(name: str, attn_type: str) -> None:
    original, x = SMALL[name].filled(attn_type=attn_type), image(16, 16)
    before = original(x)
    clone = copy.deepcopy(original)
    assert torch.equal(clone(x), before)
    scale_bias(clone, 5)
    expected = SMALL[name].filled(attn_type="Naive")
    scale_bias(expected, 5)
    # Flash may factor the bias; the change is far above its bound.
    assert_close(clone(x), expected(x), tolerance=1e-2)
    assert (clone(x) - before).abs().max() > 1e-3
    assert torch.equal(original(x), before)
    scale_bias(original, 0)
    assert (original(x) - before).abs().max() > 1e-4
    assert_close(clone(x), expected(x), tolerance=1e-2)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("attn_type", BACKENDS)
@pytest.mark.parametrize("name", ONE_PER_CLASS)
@torch.no_grad()
def test_loading_after_a_forward(name: str, attn_type: str, assign: bool) -> None:
    x = image(16, 16)
    source = SMALL[name].filled(attn_type=attn_type)
    for p in source.parameters():
        p.mul_(1.3)
    expected = source(x)
    target = SMALL[name].filled(attn_type=attn_type)
    assert (target(x) - expected).abs().max() > 1e-3
    target.load_state_dict({k: v.clone() for k, v in source.state_dict().items()}, assign=assign)
    assert torch.equal(target(x), expected)
    # And not through a tensor that both hold.
    for p in source.parameters():
        p.zero_()
    assert torch.equal(target(x), expected)


@pytest.mark.parametrize("attn_type", BACKENDS)
@torch.no_grad()
def test_writes_that_leave_no_trace_are_seen(attn_type: str) -> None:
    """BasicSR averages weights through `.data`, which does not raise a tensor's version."""
    network, x = SMALL["ESC"].filled(attn_type=attn_type), image(16, 16)
    before = network(x)
    for name, p in network.named_parameters():
        if name.endswith("relative_position_bias"):
            p.data.mul_(5)
    assert (network(x) - before).abs().max() > 1e-3


def test_a_copy_of_a_trained_network(small: Small) -> None:
    """As the training loop makes its averaged copy: after a backward pass."""
    network, x = small.filled(), image(9, 10)
    network(x).mean().backward()
    clone = copy.deepcopy(network)
    with torch.no_grad():
        for p in clone.parameters():
            p.add_(1.0)
        expected = small.filled()(x)
        assert torch.equal(network(x), expected)


@torch.no_grad()
def test_assigned_to_a_network_on_the_meta_device(small: Small) -> None:
    """The way to load without initializing first."""
    source, x = small.filled(), image(9, 10)
    with torch.device("meta"):
        network = small.build().eval()
    network.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(network(x), source(x))
