"""What `lmlt export` and `lmlt convert` cannot use: one line, the right exit status, nothing left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.export_checkpoints import shallow_state
from helpers.full_disk import largest_file

from lmlt_arch.cli import main

Make = Callable[[Path], object]


def with_nan(path: Path) -> None:
    state = shallow_state("ESC")
    state["last.bias"][3] = torch.nan
    torch.save(state, path)


def truncated(path: Path) -> None:
    torch.save(shallow_state("ESC"), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def incomplete(path: Path) -> None:
    state = shallow_state("ESC")
    del state["blocks.0.attn.to_out.weight"]
    torch.save(state, path)


class Malicious:
    """Would make a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


FILES: dict[str, tuple[Make, str]] = {
    "absent": (lambda path: None, "no checkpoint at"),
    "folder": (lambda path: path.mkdir(), "no checkpoint at"),
    "empty": (lambda path: path.write_bytes(b""), "damaged or not a checkpoint"),
    "text": (lambda path: path.write_text("weights"), "damaged"),
    "truncated": (truncated, "damaged: its parts are not to be found"),
    "malicious": (lambda path: torch.save(Malicious(path.parent / "made"), path), "would run code"),
    "stranger": (lambda path: torch.save({"weight": torch.zeros(3)}, path), "not a checkpoint of LMLT"),
    "incomplete": (incomplete, "incomplete or changed tensors"),
    "not a number": (with_nan, "weights are not finite (last.bias)"),
    "training state": (
        lambda path: torch.save({"epoch": 1, "iter": 5, "optimizers": [], "schedulers": []}, path),
        "this is a training state, use models/net_g_*.pth",
    ),
}
COMMANDS = {
    "export": lambda source, output: ["export", "--model", source, "-o", output],
    "convert": lambda source, output: ["convert", source, "-o", output],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", FILES)
def test_unusable_checkpoints(
    kind: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = FILES[kind]
    source = tmp_path / "net.pth"
    make(source)
    there = sorted(tmp_path.iterdir())
    output = tmp_path / ("out.onnx" if command == "export" else "out.safetensors")
    assert main(COMMANDS[command](str(source), str(output))) == (2 if kind in ("absent", "folder") else 1)
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err and str(source) in said.err
    assert said.err.startswith(f"lmlt {command}: error: ")
    assert said.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_that_is_not_there(
    command: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / ("out.onnx" if command == "export" else "out.pth")
    assert main([*COMMANDS[command](str(checkpoint), str(output)), "--key", "params_emma"]) == 1
    assert "has no key 'params_emma'; it has params" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("absent/out", "No such file or directory"),
        ("file/out", "Not a directory"),
        ("folder", "Is a directory"),
    ],
)
def test_unusable_outputs(
    place: str,
    message: str,
    command: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suffix = ".onnx" if command == "export" else ".pth"
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / "file").touch()
    there = sorted(tmp_path.rglob("*"))
    output = tmp_path / f"{place}{suffix}"
    assert main(COMMANDS[command](str(checkpoint), str(output))) == 1
    assert capsys.readouterr().err == f"lmlt {command}: error: cannot write {output}: {message}\n"
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
@pytest.mark.parametrize(
    ("command", "suffix"),
    [
        ("convert", "safetensors"),
        ("convert", "pth"),
        pytest.param("export", "pt2", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk(
    command: str, suffix: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"out.{suffix}"
    with largest_file(1000):
        assert main(COMMANDS[command](str(checkpoint), str(output))) == 1
    assert capsys.readouterr().err == f"lmlt {command}: error: cannot write {output}: File too large\n"
    assert [*tmp_path.iterdir()] == [checkpoint]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--model", "{net}", "-o", "out.tflite"], "out.tflite: name it .onnx or .pt2"),
        (["export", "--model", "{net}", "-o", "out"], "out: name it .onnx or .pt2"),
        (["convert", "{net}", "-o", "out.onnx"], "out.onnx: name it .pth or .safetensors"),
        (["convert", "{net}", "-o", "o.safetensors", "--as", "params"], "--as is for .pth"),
        (["convert", "{net}", "-o", "out.pth", "--scale", "0"], "scale must lie in 1..16, not 0"),
        (["convert", "{net}", "-o", "{net}"], "is the checkpoint itself: give the output another name"),
    ],
)
def test_mistakes_of_usage(
    arguments: list[str],
    message: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    assert main([argument.format(net=checkpoint) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [*checkpoint.parent.iterdir()] == [checkpoint]


def test_an_output_that_was_there_stays_whole(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pth"
    output.write_text("mine")
    assert main(["convert", str(checkpoint), "-o", str(output), "--key", "absent"]) == 1
    assert output.read_text() == "mine"
    assert main(["convert", str(checkpoint), "-o", str(output)]) == 0
    assert output.stat().st_size > 1000


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra(
    package: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(COMMANDS["export"](str(checkpoint), str(tmp_path / "out.onnx"))) == 2
    expected = f'lmlt export: error: {package} is not installed: pip install "basicsr-lmlt[export]"\n'
    assert capsys.readouterr().err == expected
    assert [*tmp_path.iterdir()] == [checkpoint]
