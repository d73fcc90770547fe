"""Loading the weights of one scale into a network of another; baking the symmetric kernel."""

from __future__ import annotations

import copy

import pytest
import reference
import torch
from helpers.golden_rules import fill
from helpers.numerics import assert_close
from helpers.small.networks import SMALL, Small, image
from torch import nn

from lmlt_arch import archs

CONVERTING = ["ESC", "ESCFP"]


def at_scale(name: str, scale: int) -> Small:
    return Small(SMALL[name].arch, {**SMALL[name].kwargs, "upscaling_factor": scale})


@pytest.mark.parametrize("name", CONVERTING)
@pytest.mark.parametrize(("old", "new"), [(2, 3), (2, 4), (4, 2), (3, 2), (1, 3), (3, 8)])
@torch.no_grad()
def test_another_scale(name: str, old: int, new: int) -> None:
    source, target = at_scale(name, old).filled(), at_scale(name, new).build().to(image(1, 1))
    state = source.state_dict()
    before = {key: v.clone() for key, v in state.items()}
    result = target.load_state_dict(state, strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], v) for key, v in before.items()), "the caller's state was changed"
    plain = at_scale(name, new).reference()
    plain.load_state_dict(reference.rescaled_state({k: v.cpu() for k, v in before.items()}, new))
    for key, expected in plain.state_dict().items():
        assert_close(target.state_dict()[key], expected, what=key)
    assert_close(target.eval()(image(9, 11)), plain(image(9, 11)))


@pytest.mark.parametrize("name", CONVERTING)
@torch.no_grad()
def test_same_scale_is_loaded_unchanged(name: str) -> None:
    source, target = SMALL[name].filled(), SMALL[name].build().to(image(1, 1))
    target.load_state_dict(source.state_dict())
    assert all(torch.equal(v, target.state_dict()[key]) for key, v in source.state_dict().items())


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", CONVERTING)
@torch.no_grad()
def test_inside_another_module(name: str, assign: bool) -> None:
    """A wrapper, as distributed training makes one, does not get in the way."""

    class Wrapper(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.module = network

    source, alone = Wrapper(at_scale(name, 2).filled()), at_scale(name, 3).build().to(image(1, 1))
    alone.load_state_dict(source.module.state_dict())
    wrapped = Wrapper(at_scale(name, 3).build().to(image(1, 1)))
    wrapped.load_state_dict(source.state_dict(), assign=assign)
    assert torch.equal(wrapped.module.eval()(image(8, 8)), alone.eval()(image(8, 8)))


@pytest.mark.parametrize("name", CONVERTING)
def test_strict_keeps_its_meaning(name: str) -> None:
    state = at_scale(name, 2).filled().state_dict()
    target = at_scale(name, 3).build()
    with pytest.raises(RuntimeError, match="stranger"):
        target.load_state_dict({**state, "stranger": torch.zeros(1)})
    for missing in ("last.weight", "to_img.bias", "to_img.weight"):
        partial = {key: v for key, v in state.items() if key != missing}
        with pytest.raises(RuntimeError, match=missing):
            target.load_state_dict(partial)
    assert target.load_state_dict({"last.bias": state["last.bias"]}, strict=False).unexpected_keys == []


@pytest.mark.parametrize("name", CONVERTING)
def test_another_width_is_still_an_error(name: str) -> None:
    wide = Small(SMALL[name].arch, {**SMALL[name].kwargs, "dim": 32, "upscaling_factor": 3})
    with pytest.raises(RuntimeError, match="to_img"):
        SMALL[name].build().load_state_dict(wide.build().state_dict())


def test_other_networks_do_not_convert() -> None:
    for name in ("LMLT", "ESCRealM-x2-plain"):
        with pytest.raises(RuntimeError, match="to_img"):
            SMALL[name].build().load_state_dict(at_scale(name, 4).build().state_dict())


@torch.no_grad()
def test_convert_bakes_the_symmetric_kernel() -> None:
    network, x = SMALL["ESC"].filled(), image(12, 15)
    assert isinstance(network, archs.ESC)
    before, names = network(x), list(network.state_dict())
    raw = network.get_parameter("plk_filter").clone()
    network.convert()
    baked = network.get_parameter("plk_filter")
    assert list(network.state_dict()) == names
    assert_close(baked, reference.symmetrized(raw))
    assert (baked - raw).abs().max() > 1e-3
    assert baked.requires_grad
    assert_close(network(x), before)
    # Symmetrizing twice changes nothing: a converted state serves an unconverted network.
    fresh = SMALL["ESC"].build().to(x).eval()
    fresh.load_state_dict(network.state_dict())
    assert_close(fresh(x), before)
    assert_close(copy.deepcopy(network)(x), before)
    network.convert()
    assert_close(network(x), before)
    # From now on the kernel acts as it is.
    baked.copy_(raw)
    assert (network(x) - before).abs().max() > 1e-3


@torch.no_grad()
def test_loading_takes_convert_back() -> None:
    """The loaded kernel need not be symmetric."""
    source, x = SMALL["ESC"].filled(), image(12, 15)
    converted = SMALL["ESC"].build().to(x).eval()
    assert isinstance(converted, archs.ESC)
    converted.convert()
    converted.load_state_dict(source.state_dict())
    assert_close(converted(x), source(x))


def test_escreal_refuses_the_record_of_another_scale() -> None:
    """Its x2 and x3 have the same shapes."""
    with pytest.raises(RuntimeError, match=r"to_img\.scale: the checkpoint records \[3\]"):
        at_scale("ESCReal-x3", 2).build().load_state_dict(SMALL["ESCReal-x3"].build().state_dict())


def test_an_optimizer_made_before_convert_goes_on_working() -> None:
    network = SMALL["ESC"].filled()
    assert isinstance(network, archs.ESC)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.convert()
    before = network.get_parameter("plk_filter").detach().clone()
    network(image(8, 8)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(network.get_parameter("plk_filter"), before)


@torch.no_grad()
def test_large_kernel_ignores_rotation() -> None:
    """What the symmetrization is for: turning and mirroring the raw kernel changes nothing."""
    network, x = SMALL["ESC"].filled(), image(11, 14)
    before = network(x)
    kernel = network.get_parameter("plk_filter")
    for changed in (kernel.flip(2), kernel.rot90(1, (2, 3)), kernel.transpose(2, 3)):
        turned = fill(SMALL["ESC"].build()).to(x).eval()
        turned.get_parameter("plk_filter").copy_(changed)
        assert_close(turned(x), before)
