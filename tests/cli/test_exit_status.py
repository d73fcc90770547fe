"""The exit status of the same mistake in every command, and errors that need a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small.evaluations import checkpoint, photo, save
from helpers.small.options import photo_options
from PIL import Image

from lmlt_arch.cli import info, main
from lmlt_arch.errors import FAILED, USAGE, DataError, MissingFileError, UsageError, explain
from lmlt_arch.files import OutputError

COMMANDS: dict[str, list[str]] = {
    "upscale": ["upscale", "{image}", "-o", "out", "--model", "{model}"],
    "compare": ["compare", "{image}", "-o", "out.png", "--model", "{model}"],
    "benchmark": ["benchmark", "--data", "{folder}", "--model", "{model}"],
    "profile": ["profile", "--size", "64x64", "--repeats", "1", "--no-memory", "--model", "{model}"],
    "export": ["export", "-o", "out.pt2", "--model", "{model}"],
    "convert": ["convert", "-o", "out.pth", "{model}"],
    "info": ["info", "{model}"],
    "prepare": ["prepare", "{folder}", "-o", "out", "--scale", "2", "--workers", "0"],
    "raw": ["raw", "{folder}", "-o", "out"],
    "degrade": ["degrade", "{folder}", "-o", "out", "-opt", "{option_file}"],
    "check": ["check", "--no-timing", "-opt", "{option_file}"],
}
WITH = {
    field: [name for name, words in COMMANDS.items() if f"{{{field}}}" in words]
    for field in ("model", "image", "folder", "option_file")
}
UNUSABLE_OPTION = {
    "upscale": ["--quality", "101"],
    "compare": ["--crops", "0"],
    "benchmark": ["--tile", "0"],
    "profile": ["--batch", "0"],
    "export": ["-o", "out.tflite"],
    "convert": ["--scale", "99"],
    "prepare": ["--scale", "0"],
    "raw": ["--filename-tmpl", "x"],
    "degrade": ["--tiles", "0"],
    "check": ["--nproc", "0"],
}


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., int]:
    """Run a command with something else in a place; the exit status, having looked at what was printed."""
    for needed in ("lmdb", "basicsr", "yaml"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    import yaml

    monkeypatch.chdir(tmp_path)
    save(tmp_path / "images/HR/cat.png", photo())
    checkpoint(tmp_path / "net.pth")
    (tmp_path / "options.yml").write_text(yaml.safe_dump(photo_options(tmp_path)))
    usual = {
        "image": "images/HR/cat.png",
        "folder": "images/HR",
        "model": "net.pth",
        "option_file": "options.yml",
    }

    def run(name: str, *more: str, **other: str) -> int:
        typed = [word.format(**{**usual, **other}) for word in COMMANDS[name]]
        status = main([*typed, *more])
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith(f"lmlt {name}: ")
        return status

    return run


@pytest.mark.parametrize("name", WITH["model"])
def test_an_unusable_checkpoint(name: str, run: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("weights")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "stranger.pth")
    assert run(name, model="text.pth") == FAILED
    assert run(name, model="stranger.pth") == FAILED


@pytest.mark.parametrize(
    ("field", "name"), [(field, name) for field, names in WITH.items() for name in names]
)
def test_a_missing_file(field: str, name: str, run: Callable[..., int]) -> None:
    absent = {"option_file": "absent.yml", "model": "absent.pth"}.get(field, "absent")
    assert run(name, **{field: absent}) == USAGE


@pytest.mark.parametrize("name", UNUSABLE_OPTION)
def test_an_unusable_option(name: str, run: Callable[..., int]) -> None:
    assert run(name, *UNUSABLE_OPTION[name]) == USAGE


def test_a_mistake_of_the_program_has_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (KeyError("x"), ValueError("x"), TypeError("x"), RuntimeError("x"), ImportError("x")):

        def fail(args: object, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(info, "run", fail)
        with pytest.raises(type(error)):
            main(["info", "net.pth"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), USAGE),
        (MissingFileError("x"), USAGE),
        (FileNotFoundError(2, "No such file or directory", "x"), USAGE),
        (ModuleNotFoundError("x", name="pydantic"), USAGE),
        (DataError("x"), FAILED),
        (OutputError("x"), FAILED),
        (PermissionError(13, "Permission denied", "x"), FAILED),
        (MemoryError("x"), FAILED),
        (FloatingPointError("a loss is not finite"), FAILED),
    ],
)
def test_statuses(error: Exception, status: int) -> None:
    explanation = explain(error)
    assert explanation is not None and explanation.exit_status == status


@pytest.mark.parametrize(
    ("package", "name", "more", "status"),
    [
        ("matplotlib", "profile", ["--plot", "cost.png"], USAGE),
        ("spandrel", "profile", ["--model", "stranger.pth"], USAGE),
        ("spandrel", "profile", ["--model", "text.pth"], FAILED),
        ("lmdb", "prepare", ["--lmdb"], USAGE),
        ("lmdb", "raw", [], USAGE),
        ("pyvips", "upscale", ["--depth", "16"], USAGE),
    ],
)
def test_a_missing_package(
    package: str,
    name: str,
    more: list[str],
    status: int,
    run: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A damaged file stays one where the package that reads others is missing."""
    (tmp_path / "text.pth").write_text("weights")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "stranger.pth")
    monkeypatch.setitem(sys.modules, package, None)
    assert run(name, *more) == status
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("package", "source"), [("pyvips", "deep.tif"), ("av", "clip.mp4")])
def test_a_missing_package_that_one_file_needs(
    package: str, source: str, run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other files are upscaled, so the command has failed in part."""
    Image.fromarray(np.zeros((32, 40), np.float32)).save(tmp_path / "deep.tif")
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    monkeypatch.setitem(sys.modules, package, None)
    typed = ["upscale", source, "images/HR/cat.png", "-o", "out", "--model", "net.pth"]
    assert main(typed) == FAILED
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cat.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "status"),
    [(("resize_prob", "resize_prb"), USAGE), (("", ""), USAGE)],
    ids=["key", "no file"],
)
def test_the_launcher_ends_as_the_command_does(
    change: tuple[str, str], status: int, run: Callable[..., int], repo_root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "options.yml"
    path.write_text(path.read_text().replace(*change))
    if not change[0]:
        path.unlink()
    programs = [
        [str(repo_root / "basicsr" / "train.py"), "-opt", str(path)],
        ["-m", "lmlt_arch", "degrade", "images/HR", "-o", "out", "-opt", str(path)],
    ]
    for program in programs:
        done = subprocess.run(
            [sys.executable, *program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(repo_root), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert str(path) in done.stderr and "Traceback" not in done.stderr
