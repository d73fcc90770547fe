"""From a file alone to the network: every class, variant and hyperparameter, and every kind of damage."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.golden_rules import fill
from helpers.small.networks import SMALL, Small, image
from safetensors.torch import save_file
from torch import Tensor

from lmlt_arch import load_model
from lmlt_arch.archs import PRESETS
from lmlt_arch.checkpoints.load import CheckpointError, describe_state, load_state

State = dict[str, Tensor]


def filled_state(small: Small) -> State:
    return fill(small.build()).state_dict()


FORMS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "bare": ("net.pth", lambda state: state),
    "params": ("net.pth", lambda state: {"params": state}),
    "params_ema": ("net.pth", lambda state: {"params_ema": state}),
    "both": ("net.pth", lambda s: {"params": {k: v * 0 for k, v in s.items()}, "params_ema": s}),
    "module": ("net.pth", lambda state: {"params": {f"module.{k}": v for k, v in state.items()}}),
    "safetensors": ("net.safetensors", lambda state: state),
}


def write(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: v.contiguous() for name, v in content.items()}, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(small: Small, form: str, tmp_path: Path) -> None:
    file, wrap = FORMS[form]
    state = filled_state(small)
    network = load_model(write(tmp_path / file, wrap(state)))
    assert type(network).__name__ == small.arch
    assert network.upscaling_factor == small.scale
    assert not network.training
    assert network.state_dict().keys() == state.keys()
    original = fill(small.build()).eval()
    x = image(9, 12, dtype=torch.float32).cpu()
    with torch.no_grad():
        assert torch.equal(network(x), original(x))


def changes() -> list[tuple[str, dict[str, Any]]]:
    """For every network, each hyperparameter that its file can tell, changed on its own."""
    esc: dict[str, list[Any]] = {
        "dim": [24, 32],
        "pdim": [4, 12],
        "kernel_size": [3, 13],
        "n_blocks": [1, 11],
        "conv_blocks": [1, 11],
        "window_size": [1, 4, 7, 32],
        "num_heads": [1, 4],
        "exp_ratio": [1, 1.3, 2, 2.71],
    }
    table: dict[str, dict[str, list[Any]]] = {
        "LMLT": {
            "dim": [20, 36],
            "n_blocks": [1, 12],
            "ffn_scale": [1, 1.5, 2.01, 3],
            "upscaling_factor": [1, 3, 4, 8],
            "low_to_high": [False],
        },
        "ESC": {**esc, "upscaling_factor": [1, 3, 4, 8], "use_ln": [True]},
        "ESCFP": {**esc, "pdim": [8, 12], "upscaling_factor": [1, 3, 4, 8]},
        "ESCReal": {**esc, "upscaling_factor": [1, 2, 3, 8], "use_dysample": [True]},
        "ESCReal-dysample": {"upscaling_factor": [1, 3, 4, 5, 8]},
        "ESCRealM-x2": {
            **esc,
            "upscaling_factor": [1, 3, 4, 8],
            "mid_dim": [16, 20],
            "upsampler": ["pixelshuffle", "pixelshuffledirect", "dysample"],
            "unshuffle_mod": [False],
        },
    }
    return [
        (name, {key: value})
        for name, keys in table.items()
        for key, values in keys.items()
        for value in values
    ]


@pytest.mark.parametrize(("name", "change"), changes(), ids=lambda v: str(v) if isinstance(v, dict) else v)
def test_every_hyperparameter(name: str, change: dict[str, Any]) -> None:
    small = Small(SMALL[name].arch, {**SMALL[name].kwargs, **change})
    with torch.device("meta"):
        original = small.build()
    state = original.state_dict()
    # The records among the tensors need their values.
    state.update({k: v for k, v in small.build().state_dict().items() if k in dict(original.named_buffers())})
    found = describe_state(state)
    assert found.arch.__name__ == small.arch
    for key, value in found.kwargs.items():
        if key in ("ffn_scale", "exp_ratio"):
            dim = small.kwargs["dim"]
            assert int(dim * value) == int(dim * small.kwargs.get(key, 2)), key
        elif key in small.kwargs:
            assert value == small.kwargs[key], key
    with torch.device("meta"):
        rebuilt = found.build()
    assert [(k, v.shape) for k, v in rebuilt.state_dict().items()] == [(k, v.shape) for k, v in state.items()]


def test_every_mix_of_the_real_upsamplers() -> None:
    for upsampler, scale, unshuffle in itertools.product(
        ["pixelshuffledirect", "pixelshuffle", "nearest+conv", "dysample"], [1, 2, 3, 4, 8], [False, True]
    ):
        kwargs = {"upsampler": upsampler, "upscaling_factor": scale, "unshuffle_mod": unshuffle}
        small = Small("ESCRealM", {**SMALL["ESCRealM-x2"].kwargs, **kwargs})
        found = describe_state(small.build().state_dict()).kwargs
        assert (found["upsampler"], found["upscaling_factor"]) == (upsampler, scale)
        assert found["unshuffle_mod"] == unshuffle or scale > 2


def test_every_ratio_survives() -> None:
    """`int(dim * ratio)` truncates: the ratio that is found must lead to the same width again."""
    for dim in (4, 20, 36, 44, 60, 84):
        with torch.device("meta"):
            state = Small("LMLT", {"dim": dim, "n_blocks": 1, "upscaling_factor": 1}).build().state_dict()
        for hidden in range(dim, 3 * dim):
            state["feats.0.ccm.ccm.0.weight"] = torch.empty(hidden, dim, 3, 3, device="meta")
            assert int(dim * describe_state(state).kwargs["ffn_scale"]) == hidden


def test_published_networks() -> None:
    for preset in PRESETS.values():
        for scale in preset.scales:
            with torch.device("meta"):
                kwargs = {**preset.kwargs, "upscaling_factor": scale}
                found = describe_state(Small(preset.arch, kwargs).build().state_dict())
            assert found.arch.__name__ == preset.arch
            assert {key: found.kwargs[key] for key in kwargs} == kwargs


def test_key_can_be_chosen(tmp_path: Path) -> None:
    state = filled_state(SMALL["ESC"])
    zero = {name: torch.zeros_like(v) for name, v in state.items()}
    path = write(tmp_path / "net.pth", {"params": zero, "params_ema": state})
    assert load_model(path, key="params").get_parameter("last.weight").abs().max() == 0
    assert load_model(str(path)).get_parameter("last.weight").abs().max() > 0
    with pytest.raises(CheckpointError, match="best"):
        load_model(path, key="best")


def test_half_precision_file(tmp_path: Path) -> None:
    state = {name: v.half() for name, v in filled_state(SMALL["ESC"]).items()}
    network = load_model(write(tmp_path / "net.safetensors", state))
    with torch.no_grad():
        assert network(torch.rand(1, 3, 8, 8)).dtype is torch.float32


def test_backend_is_passed_on(tmp_path: Path) -> None:
    path = write(tmp_path / "net.pth", filled_state(SMALL["ESC"]))
    assert load_model(path).attn_type == "auto"
    assert load_model(path, attn_type="sdpa").attn_type == "SDPA"
    with pytest.raises(ValueError, match="attn_type"):
        load_model(path, attn_type="fast")


def test_loaded_tensors_are_the_networks_own(tmp_path: Path) -> None:
    path = write(tmp_path / "net.pth", filled_state(SMALL["ESC"]))
    a, b = load_model(path), load_model(path)
    with torch.no_grad():
        a.get_parameter("last.bias").fill_(7)
    assert b.get_parameter("last.bias").max() < 7


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        load_model(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_another_network(suffix: str, tmp_path: Path) -> None:
    """The message says what was seen."""
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).state_dict()
    path = write(tmp_path / f"other.{suffix}", state)
    with pytest.raises(CheckpointError, match=r"other\..*0\.weight|other\..*0\.bias"):
        load_model(path)


ODD = [[], {}, {"params": {}}, {"params": 3}, {"params": None}, "text", torch.zeros(3), {"epoch": 3}]


@pytest.mark.parametrize("content", ODD, ids=str)
def test_no_state_dict(content: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"odd\.pth"):
        load_model(write(tmp_path / "odd.pth", content))


def test_training_state_is_named_as_such(tmp_path: Path) -> None:
    content = {"epoch": 1, "iter": 2, "optimizers": [], "schedulers": []}
    with pytest.raises(CheckpointError, match="net_g"):
        load_model(write(tmp_path / "1.state", content))


def test_a_flipped_bit_never_changes_what_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    tensors = {"weight": torch.arange(40.0), "bias": torch.ones(3)}
    torch.save({"params": tensors}, path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, 8 * len(whole), 23):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            found = load_state(path)
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error)
        else:
            assert found.keys() == tensors.keys()
            assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert refused > 60


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    tensors = {"weight": torch.arange(40.0)}
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    computed = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(tensors, tmp_path / "without.pth")
    finally:
        torch.serialization.set_crc32_options(computed)
    for name in ("old", "without"):
        assert torch.equal(load_state(tmp_path / f"{name}.pth")["weight"], tensors["weight"])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files(suffix: str, tmp_path: Path) -> None:
    whole = write(tmp_path / f"whole.{suffix}", filled_state(SMALL["ESC"])).read_bytes()
    path = tmp_path / f"damaged.{suffix}"
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_model(path)
    for seed in range(200):
        path.write_bytes(np.random.RandomState(seed).bytes(seed))
        with pytest.raises(CheckpointError, match="damaged"):
            load_model(path)
    path.write_text("<html>404: the file that you asked for is not here</html>")
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(path)


@pytest.mark.slow
def test_incomplete_states(small: Small, tmp_path: Path) -> None:
    """Any one tensor missing, and any one of another shape: always the one error, which names the file."""
    state, path = filled_state(small), tmp_path / "part.pth"
    # Without these marks the file is a sound one of another variant.
    marks = ("low_to_high", "to_img.scale", "to_img.MetaUpsample")
    for number, (name, value) in enumerate(state.items()):
        others = {k: v for k, v in state.items() if k != name}
        broken: dict[str, State] = {}
        # One of both for each two tensors, which are mostly a weight and a bias.
        if number // 2 % 2 or not value.ndim:
            broken["with another shape"] = {**others, name: torch.zeros(*value.shape, 2)}
        else:
            broken["too long"] = {**others, name: torch.cat([value, value[:1]])}
        if name not in marks:
            broken["missing"] = others
        for kind, content in broken.items():
            torch.save(content, path)
            try:
                load_model(path)
            except CheckpointError as error:
                assert "part.pth" in str(error)
            else:
                pytest.fail(f"accepted, though {name} is {kind}")


class Evil:
    """A pickle that would run code."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_never_run(legacy: bool, tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    state: dict[str, Any] = {**filled_state(SMALL["ESC"]), "extra": Evil(marker)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        load_model(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file was harmless: this test would prove nothing"


def test_bare_pickle_is_not_run(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Evil(marker), protocol=2))
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        load_model(path)
    assert not marker.exists()


def test_published_file(shared_dir: Path) -> None:
    network = load_model(shared_dir / "weights" / "LMLT_tiny_x4.pth")
    assert type(network).__name__ == "LMLT"
    assert network.upscaling_factor == 4
    assert len(network.state_dict()) == 276
