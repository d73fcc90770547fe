"""The descriptions against the networks, the registered names, and the commands' help."""

from __future__ import annotations

import inspect

import pytest
import torch
from helpers.small.networks import SMALL, Small
from torch import Tensor

from lmlt_arch import archs
from lmlt_arch.archs.families import NETWORKS, PRESETS, description_of, find_network, names_where, recognize
from lmlt_arch.cli import main
from lmlt_arch.names import PROVIDED


def test_every_registered_network_is_described_once() -> None:
    names = [description.name for description in NETWORKS]
    assert sorted(names) == sorted(PROVIDED["ARCH_REGISTRY"])
    assert {preset.arch for preset in PRESETS.values()} <= set(names)


def test_esc_with_lte_is_published_as_its_class_is_by_default() -> None:
    preset = PRESETS["ESC_LTE"]
    defaults = inspect.signature(archs.ESCLTE).parameters
    found = {name: defaults[name].default for name in preset.kwargs}
    assert {**found, "hidden_list": [*found["hidden_list"]]} == preset.kwargs


@pytest.mark.parametrize("name", SMALL)
def test_what_a_description_says_holds(name: str) -> None:
    network = SMALL[name].build()
    description = description_of(network)
    assert description is find_network(SMALL[name].arch)
    state: dict[str, Tensor] = network.state_dict()
    found = recognize(state)
    assert found is not None and found.description is description
    assert all(key in state for key in description.keys)
    if description.large_kernel:
        kernel = network.get_parameter(description.large_kernel)
        before = kernel.clone()
        description.bake(network)
        assert not torch.equal(kernel, before)
        assert torch.allclose(kernel, kernel.flip(-1)) and torch.allclose(kernel, kernel.mT)
    else:
        assert not hasattr(network, "convert")


def test_the_kernel_of_an_encoder_is_baked() -> None:
    network = archs.ESCLTE(12, 4, 5, 1, 1, 8, 2, hidden_dim=16, hidden_list=[16])
    description_of(network).bake(network)
    kernel = network.get_parameter("encoder.plk_filter")
    assert torch.allclose(kernel, kernel.flip(-1)) and torch.allclose(kernel, kernel.mT)


@pytest.mark.parametrize("name", ["ESC", "ESCFP", "ESCReal", "LMLT"])
def test_networks_resize_their_head_as_described(name: str) -> None:
    small = SMALL[name]
    other = Small(small.arch, {**small.kwargs, "upscaling_factor": 4 if small.scale != 4 else 2}).build()
    network = small.build()
    if description_of(network).resizes_head:
        other.load_state_dict(network.state_dict())
    else:
        with pytest.raises(RuntimeError):
            other.load_state_dict(network.state_dict())


def test_networks_of_users_have_the_description_of_what_they_derive_from() -> None:
    class Own(archs.LMLT):
        """A user's network."""

    assert description_of(Own(12, 1)).arch is archs.LMLT
    assert find_network("Own") is None


def test_models_that_train_a_network_are_registered() -> None:
    for description in NETWORKS:
        names = {description.trained_by, description.trained_against} - {""}
        assert description.trained_by in names <= set(PROVIDED["MODEL_REGISTRY"])


def _help(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_the_help_of_profile_names_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert f"a preset ({', '.join(PRESETS)})," in _help("profile", capsys)


@pytest.mark.parametrize("command", ["upscale", "export"])
def test_the_help_names_the_networks_of_any_scale(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = [found.name for found in NETWORKS if found.any_scale]
    assert f"any scale {'itself ' if command == 'upscale' else ''}({', '.join(names)})" in _help(
        command, capsys
    )


def test_the_help_of_convert_names_the_networks_that_can(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help("convert", capsys)
    for names in (names_where(lambda found: found.resizes_head), names_where(lambda found: found.bakes)):
        assert f"({', '.join(names)})" in text
    assert f"{{{','.join(names_where(lambda found: found.equivalents))}}}" in text
