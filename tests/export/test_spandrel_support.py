"""The networks through the real spandrel, and spandrel's own networks beside them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small.networks import SMALL, image
from torch import Tensor, nn

from lmlt_arch import load_model
from lmlt_arch.cli import main
from lmlt_arch.export import spandrel_support

# After the plugin, which fixes what spandrel imports where that is broken.
import spandrel  # isort: skip
import spandrel.architectures  # isort: skip

State = dict[str, Tensor]
OURS = {network.__name__ for network in spandrel_support.NETWORKS}

# Arguments without which a class of spandrel's cannot be built.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "MMRealSR": {"num_in_ch": 3, "num_out_ch": 3},
    "NAFNet": {"middle_blk_num": 1, "enc_blk_nums": [1], "dec_blk_nums": [1]},
    "SAFMN": {"dim": 36},
    "SAFMNBCIE": {"dim": 36},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    "Swin2SR": {"window_size": 8},
    "SwinIR": {"window_size": 8},
}
# A network of GigaGAN's size that needs many arguments.
LEFT_OUT = {"AuraSR"}


@pytest.fixture(autouse=True, scope="module")
def installed() -> None:
    spandrel_support.install()


def filled_state(name: str) -> State:
    return {key: value.cpu() for key, value in SMALL[name].filled(torch.float32).state_dict().items()}


def detected(state: State) -> list[str]:
    """Names of all architectures that claim a state dict."""
    registry = spandrel.MAIN_REGISTRY.architectures("detection")
    return [entry.architecture.id for entry in registry if entry.detect(state)]


FORMS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "params": lambda state: {"params": state},
    "params_ema": lambda state: {"params_ema": state, "params": {k: v * 0 for k, v in state.items()}},
    "distributed": lambda state: {"params": {f"module.{k}": v for k, v in state.items()}},
}


@pytest.mark.parametrize("form", [*FORMS, "safetensors"])
@pytest.mark.parametrize("name", SMALL)
def test_every_variant_loads_and_runs(name: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    torch.save(FORMS.get(form, FORMS["bare"])(filled_state(name)), path)
    if form == "safetensors":
        path = tmp_path / "network.safetensors"
        assert main(["convert", str(tmp_path / "network.pth"), "-o", str(path)]) == 0
    found = spandrel.ModelLoader().load_from_file(path)
    network = load_model(path)

    assert isinstance(found, spandrel.ImageModelDescriptor)
    assert found.architecture.id == SMALL[name].arch == type(found.model).__name__
    assert (found.scale, found.input_channels, found.output_channels) == (SMALL[name].scale, 3, 3)
    assert found.purpose == ("SR" if found.scale > 1 else "Restoration")
    assert not found.model.training
    x = image(9, 14, batch=2, dtype=torch.float32).cpu()
    with torch.no_grad():
        expected = network(x)
        assert torch.equal(found.model(x), expected)
        # spandrel's own call takes one image and clamps.
        assert torch.allclose(found(x[:1]), network(x[:1]).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize("name", ["LMLT", "ESC", "ESCFP", "ESCReal", "ESCRealM-x1-shuffle"])
def test_every_size_runs_as_it_is(name: str) -> None:
    found = spandrel.ModelLoader().load_from_state_dict(filled_state(name))
    assert found.size_requirements.none
    with torch.no_grad():
        for size in [(1, 1), (1, 70), (33, 7), (64, 64)]:
            assert found.size_requirements.check(*size)
            assert found(torch.rand(1, 3, *size)).shape[-2:] == tuple(side * found.scale for side in size)
    averaging = spandrel.ModelTiling.SUPPORTED if name == "LMLT" else spandrel.ModelTiling.DISCOURAGED
    assert found.tiling is averaging


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["LMLT", "ESCRealM-x3-dysample"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    found = spandrel.ModelLoader().load_from_state_dict(filled_state(name)).to(dtype)
    x = image(9, 14, dtype=torch.float32).cpu()
    with torch.no_grad():
        expected = SMALL[name].filled(torch.float32)(x)
        difference = (found.model(x.to(dtype)).float() - expected).abs().max() / expected.abs().max()
    assert difference < 0.08


@pytest.mark.parametrize("name", SMALL)
def test_one_architecture_claims_each_network(name: str) -> None:
    assert detected(filled_state(name)) == [SMALL[name].arch]


def test_installing_twice_changes_nothing() -> None:
    before = [entry.architecture.id for entry in spandrel.MAIN_REGISTRY]
    spandrel_support.install()
    assert [entry.architecture.id for entry in spandrel.MAIN_REGISTRY] == before
    assert set(before) >= OURS


def own_networks() -> Iterator[tuple[str, nn.Module]]:
    """A network of each of spandrel's architectures, without weights where it can be built so."""
    for package in pkgutil.iter_modules(spandrel.architectures.__path__):
        if package.name.startswith("_") or package.name in LEFT_OUT:
            continue
        module = importlib.import_module(f"spandrel.architectures.{package.name}")
        classes = [getattr(module, name) for name in module.__all__ if not name.endswith("Arch")]
        networks = [c for c in classes if isinstance(c, type) and issubclass(c, nn.Module)]
        for network in networks or [module.__dict__["MMRRDBNet_test"]]:
            arguments = ARGUMENTS.get(package.name, {})
            try:
                with torch.device("meta"):
                    yield package.name, network(**arguments)
            except RuntimeError:
                yield package.name, network(**arguments)


@pytest.mark.slow
def test_spandrels_own_networks_are_detected_as_before() -> None:
    seen = set()
    for name, network in own_networks():
        claiming = detected(network.state_dict())
        assert claiming[0] == name
        assert not OURS.intersection(claiming)
        seen.add(name)
    own = {entry.architecture.id for entry in spandrel.MAIN_REGISTRY} - OURS
    assert len(own) >= 42
    assert seen == own - LEFT_OUT


PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Compact": ("Compact", {"num_feat": 8, "num_conv": 2, "upscale": 2}),
    "ESRGAN": ("ESRGAN", {"num_filters": 8, "num_blocks": 1, "scale": 2}),
    "PLKSR": ("PLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "SPAN": ("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2}),
    "SwinIR": ("SwinIR", {"window_size": 8, "embed_dim": 16, "depths": [2], "num_heads": [2]}),
}


@pytest.mark.parametrize("name", PEERS)
def test_spandrels_own_networks_load_as_before(name: str, tmp_path: Path) -> None:
    class_name, arguments = PEERS[name]
    network = getattr(importlib.import_module(f"spandrel.architectures.{name}"), class_name)(**arguments)
    torch.save(network.state_dict(), tmp_path / "peer.pth")
    stock = spandrel.ArchRegistry()
    stock.add(*(entry for entry in spandrel.MAIN_REGISTRY if entry.architecture.id not in OURS))
    before = spandrel.ModelLoader(registry=stock).load_from_file(tmp_path / "peer.pth")
    now = spandrel.ModelLoader().load_from_file(tmp_path / "peer.pth")
    assert now.architecture.id == before.architecture.id == name
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(now.eval().model(x), before.eval().model(x))


@pytest.mark.parametrize(
    "state",
    [{}, {"to_feat.weight": torch.zeros(3)}, {"plk_filter": "text", "to_img.weight": None}],
    ids=["empty", "one name", "no tensors"],
)
def test_strangers_are_not_claimed(state: dict[str, Any]) -> None:
    assert not OURS.intersection(detected(state))
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader().load_from_state_dict(state)
