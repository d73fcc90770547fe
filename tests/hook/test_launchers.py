"""The launchers' and the doctor's words when something is missing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from throwaway import Environment


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


def test_option_file_missing(stock: Environment, launcher: Path, tmp_path: Path) -> None:
    said = stock.run(launcher, "-opt", "no/such.yml", cwd=tmp_path, fails=True)
    assert _only_line(said) == "no/such.yml cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [1\nb: 2\n", "is no YAML: while parsing a flow sequence"), ("- 1\n", "must hold keys and values")],
)
def test_option_file_unusable(
    stock: Environment, launcher: Path, text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(text)
    said = stock.run(launcher, "-opt", path, cwd=tmp_path, fails=True)
    assert f"{path} {words}" in _only_line(said)


def test_doctor_where_all_is_well(installed: Environment, tmp_path: Path) -> None:
    said = installed.run("-m", "lmlt_arch.cli", "doctor", cwd=tmp_path)
    assert f"1.4.2, {installed.site / 'basicsr'}" in said
    for words in ("SDPA", "functional-tensor", "LMLT, ESC, ESCFP", "FFTLoss", "Training works here."):
        assert words in said


def test_doctor_without_basicsr(plugged: Environment, tmp_path: Path) -> None:
    said = plugged.run("-m", "lmlt_arch.cli", "doctor", cwd=tmp_path, fails=True)
    assert "Training cannot work here" in said
    assert "pip install --no-deps --no-build-isolation basicsr" in said


def test_doctor_without_the_hook(stock: Environment, repo_root: Path, tmp_path: Path) -> None:
    said = stock.run(
        "-m", "lmlt_arch.cli", "doctor", cwd=tmp_path, fails=True, variables={"PYTHONPATH": str(repo_root)}
    )
    assert "The import hook is not in this environment" in said
    assert "LMLT, ESC, ESCFP" in said
