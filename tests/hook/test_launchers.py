"""The launchers' words when something is missing or something else has the name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.throwaway import Environment

from lmlt_arch.hook import launch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def launcher(repo_root: Path) -> Path:
    return repo_root / "basicsr" / "train.py"


def _only_line(said: str) -> str:
    (line,) = said.splitlines()
    return line


def test_basicsr_missing(
    plain: Environment, launcher: Path, options: Callable[..., Path], tmp_path: Path
) -> None:
    said = plain.run(launcher, "-opt", options(), cwd=tmp_path, fails=True)
    assert _only_line(said).startswith("BasicSR is not installed")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["basicsr.py"], "basicsr.py has no utils/registry.py"),
        (["basicsr/words.py"], "basicsr has no utils/registry.py"),
        (["basicsr/__init__.py", "basicsr/train.py"], "basicsr has no utils/registry.py"),
    ],
    ids=["module", "folder", "older"],
)
def test_something_else_called_basicsr(
    plain: Environment, launcher: Path, files: list[str], words: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    said = plain.run(
        launcher, "-opt", "no.yml", cwd=tmp_path, fails=True, variables={"PYTHONPATH": str(tmp_path)}
    )
    assert words in _only_line(said)
    assert str(tmp_path / "basicsr") in said


def test_basicsr_without_the_pipeline() -> None:
    place = Path("site-packages/basicsr")
    with pytest.raises(SystemExit, match=r"BasicSR in .*basicsr is not whole: it has no basicsr\.no_train"):
        launch._pipeline("no_train", place)
    with pytest.raises(SystemExit, match=r"has no utils_pipeline\. Start its own utils\.py instead"):
        launch._pipeline("utils", place)


def test_option_file_missing(stock: Environment, launcher: Path, tmp_path: Path) -> None:
    said = stock.run(launcher, "-opt", "no/such.yml", cwd=tmp_path, fails=True)
    assert _only_line(said) == "no/such.yml cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [1\nb: 2\n", "is no YAML: while parsing a flow sequence"), ("- 1\n", "must hold keys and values")],
)
def test_option_file_unusable(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(path)])
    with pytest.raises(SystemExit) as ended:
        launch.main("train")
    assert f"{path} {words}" in _only_line(str(ended.value.code))
