"""Training works in either mode, reaches every parameter and leaves the input alone."""

from __future__ import annotations

import pytest
import torch
from helpers.numerics import DEVICE, assert_close
from helpers.small.networks import SMALL, Small, image

from lmlt_arch import archs


def test_every_network_has_a_small_one() -> None:
    """A network that is added to the package enters these tests, or those of any scale `test_lte.py`."""
    networks = {
        name
        for name in archs.__all__
        if isinstance(getattr(archs, name), type)
        and issubclass(getattr(archs, name), archs.SRNetwork)
        and not getattr(archs, name).any_scale
    }
    assert networks - {"SRNetwork"} == {small.arch for small in SMALL.values()}


@pytest.mark.parametrize("attn_type", ["auto", "Naive", "SDPA", "Flex", "Flash", "Triton"])
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_every_parameter_receives_a_gradient(small: Small, train: bool, attn_type: str) -> None:
    network = small.filled(attn_type=attn_type).train(train)
    network(image(16, 24, batch=2)).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, f"{name} is not reached"
        assert torch.isfinite(p.grad).all(), f"{name} has a gradient that is not finite"
        assert p.grad.abs().max() > 0, f"{name} has a zero gradient"


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_input_is_not_modified(small: Small, train: bool) -> None:
    network, x = small.filled().train(train), image(16, 8)
    before = x.clone()
    network(x)
    assert torch.equal(x, before)
    assert x.grad_fn is None


def test_backward_twice(small: Small) -> None:
    """Nothing that the graph needs is overwritten or cached from a call to the next."""
    network, x = small.filled(), image(8, 9)
    grads = []
    for _ in range(2):
        network.zero_grad()
        network(x).mean().backward()
        grads.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for first, second in zip(*grads, strict=True):
        # Sums on a GPU come in any order.
        assert_close(first, second, tolerance=0 if DEVICE.type == "cpu" else None)


def test_one_step_of_training_changes_the_output(small: Small) -> None:
    network, x = small.filled().train(), image(10, 10, batch=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    target = torch.zeros_like(network(x))
    losses = []
    for _ in range(3):
        loss = (network(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]
    # What a backend keeps from earlier calls must have followed the parameters.
    fresh = small.filled()
    fresh.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(x), network.eval()(x))
