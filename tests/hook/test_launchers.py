"""The launchers' words and exit statuses when something is missing, wrong or in use."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.throwaway import Environment

from lmlt_arch.errors import FAILED, USAGE, DataError, explain
from lmlt_arch.files import exclusive
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
    said = plain.run(launcher, "-opt", options(), cwd=tmp_path, status=USAGE)
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
        launcher, "-opt", "no.yml", cwd=tmp_path, status=USAGE, variables={"PYTHONPATH": str(tmp_path)}
    )
    assert words in _only_line(said)
    assert str(tmp_path / "basicsr") in said


def test_basicsr_without_the_pipeline() -> None:
    place = Path("site-packages/basicsr")
    for name, words in (
        ("no_train", r"BasicSR in .*basicsr is not whole: it has no basicsr\.no_train"),
        ("utils", r"has no utils_pipeline\. Start its own utils\.py instead"),
    ):
        with pytest.raises(SystemExit, match=words) as ended:
            launch._pipeline(name, place)
        assert ended.value.code == USAGE


def test_option_file_missing(stock: Environment, launcher: Path, tmp_path: Path) -> None:
    said = stock.run(launcher, "-opt", "no/such.yml", cwd=tmp_path, status=USAGE)
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
    assert f"{path} {words}" in _only_line(str(ended.value))
    assert ended.value.code == USAGE


FORCED = {
    "train:total_iter=[open('ran', 'w')]": "is no list of plain values, and no code is run",
    "name\"];open('ran', 'w');opt[\"name=1": "is no section:key=value, and no code is run",
}


@pytest.mark.parametrize("start", ["launcher", "-m basicsr.train", "BasicSR's train.py"])
@pytest.mark.parametrize("forced", FORCED)
def test_forced_values_that_are_code(
    installed: Environment,
    launcher: Path,
    options: Callable[..., Path],
    tmp_path: Path,
    start: str,
    forced: str,
) -> None:
    """Of a model that is not ours, whose option file nobody checks."""
    path = options()
    path.write_text(path.read_text().replace("  fft_opt:", "  # fft_opt:"))
    own = installed.site / "basicsr" / "train.py"
    command: list[str | Path] = {"launcher": [launcher], "-m basicsr.train": ["-m", "basicsr.train"]}.get(
        start, [own]
    )
    said = installed.run(*command, "-opt", path, "--force_yml", forced, cwd=tmp_path, status=USAGE)
    assert FORCED[forced] in said.splitlines()[-1]
    assert not (tmp_path / "ran").exists()
    assert "Traceback" not in said


@pytest.mark.parametrize("start", ["launcher", "-m basicsr.train"])
def test_a_run_that_cannot_begin(
    installed: Environment, launcher: Path, options: Callable[..., Path], tmp_path: Path, start: str
) -> None:
    """A name in use is nothing that was typed wrong."""
    pytest.importorskip("fcntl")
    command: list[str | Path] = [launcher] if start == "launcher" else ["-m", "basicsr.train"]
    root = tmp_path if start == "launcher" else installed.site  # BasicSR's own takes the folder that it is in
    path = options()
    path.write_text(path.read_text().replace("name: tiny", "name: held"))
    (root / "experiments").mkdir(exist_ok=True)
    with exclusive(root / "experiments" / ".held.lock", "training", "wait"):
        said = installed.run(*command, "-opt", path, cwd=tmp_path, status=FAILED)
    assert "is running: process" in said and "Traceback" not in said


def test_every_process_of_torchrun_ends(
    installed: Environment, launcher: Path, options: Callable[..., Path], tmp_path: Path
) -> None:
    """With the status of the mistake; torchrun's own is 1 whatever a process ended with."""
    path = options()
    path.write_text(path.read_text().replace("gamma", "gama"))
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", launcher]
    said = installed.run(*start, "-opt", path, "--launcher", "pytorch", cwd=tmp_path, status=FAILED)
    assert said.count("unknown key 'gama'") == 1
    assert re.findall(r"exitcode *: (-?\d+)", said)[-1] == str(USAGE)
    assert str(launcher) not in "".join(re.findall(r'File "(.*)"', said)), "no traceback of ours"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("damaged"), FAILED),
        (MemoryError("16 GiB"), FAILED),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), FAILED),
        (FileNotFoundError(2, "No such file or directory", "x"), USAGE),
        (ModuleNotFoundError("No module named 'scipy'", name="scipy"), USAGE),
        (RuntimeError("shapes differ"), None),
        (KeyError("name"), None),
        (ImportError("a name is gone"), None),
    ],
)
def test_errors_of_a_run(error: Exception, status: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `lmlt` says in a sentence is one here, and what needs a traceback keeps it."""

    def fail(root: str) -> None:
        raise error

    said: list[str] = []
    log = SimpleNamespace(error=said.append)
    monkeypatch.setattr("basicsr.utils.get_root_logger", lambda: log)
    monkeypatch.setattr(launch, "_pipeline", lambda *args: fail)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    with pytest.raises(type(error) if status is None else SystemExit) as ended:
        launch.main("train")
    if status is None:
        assert ended.value is error
    else:
        explanation = explain(error)
        assert isinstance(ended.value, SystemExit) and explanation is not None
        assert (ended.value.code, said) == (status, [explanation.sentence])


@pytest.mark.parametrize("library", ["scipy", "yaml"])
def test_a_library_of_basicsr_is_missing(
    stock: Environment, launcher: Path, tmp_path: Path, library: str
) -> None:
    """Its log can tell of the second, not of the first, without which nothing of it can be imported."""
    script = f"""
        import runpy, sys
        sys.modules[{library!r}] = None
        sys.argv = [{str(launcher)!r}, "-opt", "no.yml"]
        runpy.run_path(sys.argv[0], run_name="__main__")
    """
    said = stock.script(script, cwd=tmp_path, status=USAGE)
    assert _only_line(said).endswith(f'needs {library}: pip install "basicsr-lmlt[train]"')
