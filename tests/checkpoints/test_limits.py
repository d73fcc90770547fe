"""Checkpoints that claim more than they hold, or hold numbers of other kinds, through all who read them."""

from __future__ import annotations

import re
import resource
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers.golden_rules import fill
from helpers.small.networks import SMALL
from safetensors.torch import save_file
from torch import Tensor

from lmlt_arch.archs.lmlt import variants
from lmlt_arch.checkpoints.load import CheckpointError, load_for_training, load_model, load_state
from lmlt_arch.cli import main

State = dict[str, Tensor]


def state_of(name: str) -> State:
    return dict(fill(SMALL[name].build()).state_dict())


@contextmanager
def little_memory(more: int) -> Iterator[None]:
    """Let this process ask for no more than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def one(*shape: int) -> Tensor:
    """A tensor of stride 0: a single number."""
    return torch.zeros(1).expand(*shape)


def cut(*shape: int) -> Tensor:
    """A tensor whose storage holds a part of it."""
    tensor = torch.zeros(*shape)
    tensor.untyped_storage().resize_(64)
    return tensor


BOMBS: dict[str, tuple[str, Callable[[State], State]]] = {
    "stride 0": ("of it", lambda s: {**s, "to_feat.weight": one(20000, 3, 3, 3)}),
    "wide": ("of it", lambda s: {**s, "feats.0.ccm.ccm.0.weight": one(200000, 16, 3, 3)}),
    "storage too short": ("x.pth", lambda s: {**s, "to_feat.weight": cut(3000000, 3, 3, 3)}),
    "without elements": ("size mismatch", lambda s: {**s, "to_feat.weight": torch.zeros(20000, 0, 3, 3)}),
    "empty blocks": (
        "has not the tensors of feats.0",
        lambda s: {**s, **{f"feats.{i}.x": torch.zeros(0) for i in range(2, 3000)}},
    ),
    "blocks without beginning": (
        "but no feats.",
        lambda s: {**s, **{k.replace("feats.1.", "feats.70000."): v for k, v in s.items()}},
    ),
    "one storage for all": (
        "and the file has",
        lambda s: {**s, **{f"more.{i}": s["feats.0.ccm.ccm.0.weight"] for i in range(2000)}},
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_claims_are_compared_with_the_file(
    bomb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, make = BOMBS[bomb]
    path = tmp_path / "x.pth"
    torch.save({"params": make(state_of("LMLT"))}, path)
    assert path.stat().st_size < 2 << 20
    start = time.monotonic()
    with little_memory(256 << 20), pytest.raises(CheckpointError, match=words) as refused:
        load_model(path)
    assert str(path) in str(refused.value)
    assert time.monotonic() - start < 20
    assert main(["info", str(path)]) == 1
    assert main(["convert", str(path), "-o", str(tmp_path / "y.pth")]) == 1
    assert not (tmp_path / "y.pth").exists()
    for line in capsys.readouterr().err.splitlines():
        assert str(path) in line


@pytest.mark.parametrize("value", [0, -1, 10**6])
def test_records_that_shapes_do_not_bound(value: int, tmp_path: Path) -> None:
    network = variants.LMLTVariant(dim=16, n_blocks=1, levels=2, window=4, pooling="max", upscaling_factor=2)
    state = network.state_dict()
    state["variant"][1] = value
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"windows of {value} pixels; the most are 1024"):
        load_model(tmp_path / "x.pth")


def test_compressed_archives_are_bounded(tmp_path: Path) -> None:
    torch.save({"last.weight": torch.zeros(4 << 20)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for entry in plain.infolist():
            small.writestr(entry.filename, plain.read(entry))
    with pytest.raises(
        CheckpointError, match=r"x\.pth: damaged: its parts claim \d+ bytes, in a file of \d+"
    ):
        load_state(tmp_path / "x.pth")


def as_read(name: str, path: Path) -> None:
    """By `load_model`, and for training, strict or not."""
    for strict in (True, False):
        load_for_training(SMALL[name].build(), path, key="params", strict=strict)
    load_model(path)


OTHER = [
    torch.complex64,
    torch.int8,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


@pytest.mark.parametrize("dtype", OTHER, ids=str)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_other_kinds(
    dtype: torch.dtype, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_of("ESC")
    state["last.weight"] = state["last.weight"].to(dtype)
    path = tmp_path / f"x.{suffix}"
    if suffix == "pth":
        torch.save({"params": state}, path)
    else:
        save_file(state, path)
    said = f"{path}: last.weight is {str(dtype)[6:]}; weights may be float32, float16, bfloat16 and float64"
    words = re.escape(said)
    for strict in (True, False):
        network = SMALL["ESC"].build()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with pytest.raises(CheckpointError, match=words):
            load_for_training(network, path, key="params", strict=strict)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(CheckpointError, match=words):
        load_model(path)
    for command in (
        ["info", str(path)],
        ["convert", str(path), "-o", str(tmp_path / "y.pth")],
        ["export", "--model", str(path), "-o", str(tmp_path / "y.onnx")],
    ):
        assert main(command) == 1
        assert said in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["ESC", "LMLT-no-low-to-high", "ESCReal-x3", "ESCRealM-x2"])
def test_weights_that_are_taken(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v.long() for k, v in state_of(name).items()}
    torch.save({"params": state}, tmp_path / "x.pth")
    as_read(name, tmp_path / "x.pth")


@pytest.mark.parametrize("value", [True, 3 + 0j, 3.5, 300.0, -1, float("nan")], ids=str)
def test_records_of_other_kinds(value: complex, tmp_path: Path) -> None:
    state = state_of("ESCReal-x3")
    state["to_img.scale"] = torch.tensor(value)
    torch.save({"params": state}, tmp_path / "x.pth")
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=r"x\.pth: to_img\.scale is \w+, not uint8"):
            load_for_training(SMALL["ESCReal-x3"].build(), tmp_path / "x.pth", key="params", strict=strict)
    with pytest.raises(CheckpointError, match=r"x\.pth: "):
        load_model(tmp_path / "x.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64], ids=str)
def test_a_record_that_was_converted_with_the_rest(dtype: torch.dtype, tmp_path: Path) -> None:
    state = state_of("ESCReal-x3")
    state["to_img.scale"] = state["to_img.scale"].to(dtype)
    torch.save({"params": state}, tmp_path / "x.pth")
    as_read("ESCReal-x3", tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "odd",
    [
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.to("meta"),
        lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "quantized"],
)
def test_tensors_that_are_no_plain_ones(odd: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    state = state_of("ESC")
    state["last.weight"] = odd(state["last.weight"])
    torch.save({"params": state}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: last\.weight is no plain tensor"):
        load_state(tmp_path / "x.pth")


def test_views_and_shared_weights_are_read(tmp_path: Path) -> None:
    """A state dict may hold views of one storage; other networks than ours may share weights."""
    whole = torch.arange(600.0)
    state = {"a": whole[:300], "b": whole[300:], "c": whole[:300], "d": whole.reshape(2, 300).T}
    torch.save(state, tmp_path / "x.pth")
    found = load_state(tmp_path / "x.pth")
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
