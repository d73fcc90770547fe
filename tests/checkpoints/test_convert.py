"""`lmlt convert`: formats and keys to the bit, other forms by what the networks put out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.export_checkpoints import shallow_state
from helpers.golden_rules import fill
from helpers.numerics import assert_close
from helpers.small.networks import ONE_PER_CLASS, SMALL, image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmlt_arch import ESCReal, ESCRealM, load_model
from lmlt_arch.archs.esc.blocks import symmetrize
from lmlt_arch.checkpoints.load import CheckpointError, load_state
from lmlt_arch.cli import main

State = dict[str, Tensor]


def convert(source: Path, output: Path, *options: str) -> int:
    return main(["convert", str(source), "-o", str(output), *options])


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name], tensor), name


def output_of(path: Path, **options: Any) -> Tensor:
    with torch.no_grad():
        return load_model(path, **options)(image(13, 22, batch=2, dtype=torch.float32).cpu())


@pytest.mark.parametrize("checkpoint", SMALL, indirect=True)
def test_to_safetensors_and_back(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_state(checkpoint)
    middle, back = tmp_path / "network.safetensors", tmp_path / "back.pth"
    assert convert(checkpoint, middle) == 0
    assert_same(load_state(middle), state)
    assert convert(middle, back) == 0
    content = torch.load(back, weights_only=True)
    assert content.keys() == {"params"}
    assert_same(content["params"], state)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all("computes the same: largest difference 0.0e+00" in line for line in said)

    network = load_model(checkpoint)
    with safe_open(middle, "pt") as file:
        header = file.metadata()
    assert header["network"] == type(network).__name__
    assert header["scale"] == str(network.upscaling_factor)
    rebuilt = type(network)(**json.loads(header["kwargs"]))
    rebuilt.load_state_dict(state)


@pytest.mark.parametrize("checkpoint", ONE_PER_CLASS, indirect=True)
def test_the_same_bytes_each_time(checkpoint: Path, tmp_path: Path) -> None:
    for suffix in ("pth", "safetensors"):
        written = set()
        for number in range(3):
            torch.manual_seed(number)
            assert convert(checkpoint, tmp_path / f"{number}.{suffix}") == 0
            written.add((tmp_path / f"{number}.{suffix}").read_bytes())
        assert len(written) == 1, suffix


def test_a_flipped_bit_in_safetensors_is_noticed(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert convert(checkpoint, path) == 0
    whole, state = path.read_bytes(), load_state(path)
    header = int.from_bytes(whole[:8], "little")
    refused = 0
    places = [*range(0, 8 * (8 + header), 41), *range(8 * (8 + header), 8 * len(whole), 4001)]
    for place in places:
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            found = load_state(path)
        except CheckpointError as error:
            refused += 1
            assert f"{path}: damaged" in str(error)
        else:  # the digest went by another name, or a space at the end of the header
            assert_same(found, state)
    assert refused > len(places) - 20
    assert convert(path, tmp_path / "y.pth") == 1
    path.write_bytes(whole[:-4] + b"1234")
    with pytest.raises(CheckpointError, match=r"x\.safetensors: damaged: .*lmlt_sha256.*; copy it again"):
        load_model(path)


def test_safetensors_of_others_and_earlier_ones_are_read(tmp_path: Path) -> None:
    state = shallow_state("ESC")
    for number, metadata in enumerate((None, {}, {"format": "pt"}, {"sha256": "of something else"})):
        save_file(state, tmp_path / f"{number}.safetensors", metadata)
        assert_same(load_state(tmp_path / f"{number}.safetensors"), state)
    # Other programs keep the metadata in an order of their own.
    assert convert(tmp_path / "0.safetensors", tmp_path / "y.safetensors") == 0
    with safe_open(tmp_path / "y.safetensors", "pt") as file:
        metadata = file.metadata()
    save_file(state, tmp_path / "z.safetensors", dict(reversed(metadata.items())))
    assert_same(load_state(tmp_path / "z.safetensors"), state)
    save_file({**state, "last.bias": state["last.bias"] + 1}, tmp_path / "z.safetensors", metadata)
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(tmp_path / "z.safetensors")


@pytest.mark.parametrize("wrapper", ["params", "params_ema", "bare"])
def test_where_the_weights_lie(wrapper: str, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pth"
    assert convert(checkpoint, output, "--as", wrapper) == 0
    content = torch.load(output, weights_only=True)
    assert_same(content if wrapper == "bare" else content[wrapper], load_state(checkpoint))


@pytest.mark.parametrize("key", [None, "params", "params_ema"])
def test_which_weights_are_taken(key: str | None, tmp_path: Path) -> None:
    state = shallow_state("ESC")
    averaged = {name: tensor * 0.5 for name, tensor in state.items()}
    source, output = tmp_path / "both.pth", tmp_path / "one.safetensors"
    torch.save({"params": state, "params_ema": averaged}, source)
    assert convert(source, output, *(["--key", key] if key else [])) == 0
    assert_same(load_state(output), state if key == "params" else averaged)


def test_half_precision_stays(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in shallow_state("LMLT").items()}
    source, output = tmp_path / "half.pth", tmp_path / "half.safetensors"
    torch.save(state, source)
    assert convert(source, output) == 0
    assert_same(load_state(output), state)
    with safe_open(output, "pt") as file:
        assert file.metadata()["dtype"] == "float16"


def test_views_are_not_written_with_all_that_they_view(tmp_path: Path) -> None:
    state = {
        name: torch.cat((tensor, tensor))[: len(tensor)] for name, tensor in shallow_state("ESC").items()
    }
    source, output, lean = tmp_path / "views.pth", tmp_path / "out.pth", tmp_path / "lean.pth"
    torch.save(state, source)
    torch.save({"params": shallow_state("ESC")}, lean)
    assert convert(source, output) == 0
    assert output.stat().st_size < 1.05 * lean.stat().st_size < source.stat().st_size


@pytest.mark.parametrize("checkpoint", ["ESC", "ESCFP"], indirect=True)
@pytest.mark.parametrize("scale", [1, 3, 4])
def test_another_scale(
    scale: int, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.pth"
    assert convert(checkpoint, output, "--scale", str(scale)) == 0
    assert "a start for training, not a trained network" in capsys.readouterr().out
    state, resized = load_state(checkpoint), load_state(output)
    changed = {name for name in state if not torch.equal(state[name], resized[name])}
    assert changed == {"to_img.weight", "to_img.bias"}
    assert output_of(output).shape[-1] == 22 * scale


def test_the_scale_that_it_has_anyway(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(checkpoint, tmp_path / "out.pth", "--scale", "2") == 0
    assert "computes the same" in capsys.readouterr().out


@pytest.mark.parametrize("checkpoint", ["ESC", "ESCReal", "ESCRealM-x2"], indirect=True)
def test_baking(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pth"
    assert convert(checkpoint, output, "--bake") == 0
    before, after = load_state(checkpoint), load_state(output)
    kernel = after["plk_filter"]
    assert not torch.equal(before["plk_filter"], kernel)
    assert_close(kernel, symmetrize(before["plk_filter"]))
    for turned in (kernel.mT, kernel.flip(-1), kernel.rot90(1, (-2, -1))):
        assert_close(turned, kernel)
    assert_same({**after, "plk_filter": before["plk_filter"]}, before)
    assert_close(output_of(output), output_of(checkpoint))


def dysample(arch: str, scale: int) -> dict[str, Any]:
    kwargs = {**SMALL["ESCReal-dysample"].kwargs, "upscaling_factor": scale}
    if arch == "ESCRealM":
        del kwargs["use_dysample"]
        kwargs |= {"upsampler": "dysample", "mid_dim": kwargs["dim"], "unshuffle_mod": scale > 2}
    return kwargs


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_real_to_real_m_and_back(scale: int, tmp_path: Path) -> None:
    state = fill(ESCReal(**dysample("ESCReal", scale))).state_dict()
    source, there, back = (tmp_path / f"{name}.pth" for name in ("real", "real_m", "back"))
    torch.save({"params_ema": state}, source)
    assert convert(source, there, "--to", "ESCRealM") == 0
    ESCRealM(**dysample("ESCRealM", scale)).load_state_dict(load_state(there))
    assert type(load_model(there)) is ESCRealM
    assert torch.equal(output_of(there), output_of(source))
    assert convert(there, back, "--to", "ESCReal") == 0
    assert_same(load_state(back), state)


@pytest.mark.parametrize(
    ("checkpoint", "to", "message"),
    [
        ("ESCReal", "ESCRealM", "ESCReal convolves after replicating pixels, ESCRealM before"),
        ("ESCRealM-x2", "ESCReal", "only DySample, without inner width or unshuffling, is the same in both"),
        ("ESCRealM-x3-dysample", "ESCReal", "without inner width"),
        ("ESCRealM-x1-conv", "ESCReal", "only DySample"),
        ("ESCReal-dysample", "ESCReal", "this is ESCReal"),
        ("LMLT", "ESCReal", "this is LMLT; ESCReal and ESCRealM are converted"),
    ],
    indirect=["checkpoint"],
)
def test_classes_that_compute_differently(
    checkpoint: Path, to: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(checkpoint, tmp_path / "out.pth", "--to", to) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [*tmp_path.iterdir()] == [checkpoint]


@pytest.mark.parametrize(
    ("checkpoint", "option", "message"),
    [
        ("LMLT", ["--scale", "3"], "--scale: the last layer of LMLT cannot be resized"),
        ("ESCReal", ["--scale", "3"], "--scale: the last layer of ESCReal cannot be resized"),
        ("LMLT", ["--bake"], "--bake: LMLT averages no large kernel"),
        ("ESCFP", ["--bake"], "--bake: ESCFP averages no large kernel"),
    ],
    indirect=["checkpoint"],
)
def test_what_a_network_does_not_allow(
    checkpoint: Path, option: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(checkpoint, tmp_path / "out.pth", *option) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [*tmp_path.iterdir()] == [checkpoint]
