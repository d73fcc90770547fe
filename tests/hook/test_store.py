"""That torchrun, and nothing else, gets the variable with which restarts work; what warns without it."""

from __future__ import annotations

import os
import subprocess
import sys
import timeit
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from helpers.throwaway import Environment, clean_environment

from lmlt_arch.hook import store

HOOK = "lmlt_basicsr_hook.pth"
MODULE = "torch.distributed.run"


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        (["/bin/torchrun", "a.py"], ["python", "/bin/torchrun", "a.py"], True),
        (["torchrun", "a.py"], ["python", "-X", "utf8", "torchrun", "a.py"], True),
        (["/x/torch/distributed/run.py"], ["python", "/x/torch/distributed/run.py"], True),
        (["-m", "a.py"], ["python", "-u", "-m", MODULE, "a.py"], True),
        (["-m"], ["python", "-m", MODULE], True),
        (["-m", "a.py"], ["python", f"-um{MODULE}", "a.py"], True),
        (["-m", "a.py"], ["python", "-m", "torch.distributed.launch", "a.py"], True),
        (["-m", MODULE], ["python", "-m", "pydoc", MODULE], False),
        (["train.py", "torchrun"], ["python", "train.py", "torchrun"], False),
        (["torchrun.py"], ["python", "torchrun.py"], False),
        (["my_torchrun"], ["python", "my_torchrun"], False),
        (["-c"], ["python", "-c", "torchrun"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_torchrun_is_recognized(argv: list[str], orig_argv: list[str], expected: bool) -> None:
    assert store.is_torchrun(argv, orig_argv) is expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nnodes=2", "basicsr/train.py", "-opt", "a.yml"], True),
        (["-m", "basicsr.train", "-opt", "a.yml"], True),
        (["upscale.py", "train.py"], False),
        (["missing.py"], False),
        (["-m", "lmlt_arch", "upscale", "basicsr"], False),
    ],
)
def test_programs_of_basicsr(
    arguments: list[str], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "basicsr").mkdir()
    (tmp_path / "basicsr" / "train.py").write_text("from basicsr.utils import options\n")
    (tmp_path / "train.py").write_text("import torch\n")
    (tmp_path / "upscale.py").write_text("import torch\n")
    monkeypatch.chdir(tmp_path)
    assert store.starts_basicsr(arguments) is expected


@pytest.mark.parametrize("launcher", ["train", "test"])
def test_our_launchers_and_basicsrs_own(launcher: str, repo_root: Path) -> None:
    import basicsr.train

    assert store.starts_basicsr([str(repo_root / "basicsr" / f"{launcher}.py")])
    assert store.starts_basicsr([str(Path(basicsr.train.__file__).with_name(f"{launcher}.py"))])


WORKER = {
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_MAX_RESTARTS": "3",
    "WORLD_SIZE": "4",
    "RANK": "0",
}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"TORCHELASTIC_USE_AGENT_STORE": "False"},
        {"TORCHELASTIC_MAX_RESTARTS": "0"},
        {"WORLD_SIZE": "1"},
        {"RANK": "3"},
        {"WORLD_SIZE": "many"},
    ],
)
def test_when_a_process_warns(changed: Mapping[str, str]) -> None:
    said = store.warning({**WORKER, **changed})
    assert bool(said) == (not changed)
    assert not said or "Fix: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in said
    assert store.warning({}) == ""


# Says what it sees, without torch; the word that makes it a program of BasicSR is in its file.
PROGRAM = """
import os, sys
print("pid", os.getpid(), "variable", os.environ.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE"),
      "shared", os.environ.get("TORCHELASTIC_USE_AGENT_STORE"))
# {subject}
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", ["torchrun", "-m torch.distributed.run"])
def test_real_torchrun(installed: Environment, tmp_path: Path, start: str) -> None:
    """Workers see the variable, too, and that nobody shares a store."""
    ours, other = tmp_path / "train.py", tmp_path / "other_train.py"
    ours.write_text(PROGRAM.format(subject="from basicsr.train import train_pipeline"))
    other.write_text(PROGRAM.format(subject="another project"))
    if start == "torchrun":
        torchrun = installed.home / "bin" / "torchrun"
        torchrun.write_text("from torch.distributed.run import main\nmain()\n")
        command: list[str | Path] = [torchrun]
    else:
        command = ["-m", MODULE]
    command += ["--standalone", "--nproc_per_node=1"]
    assert "variable 1 shared False" in installed.run(*command, ours, cwd=tmp_path)
    assert "variable None shared True" in installed.run(*command, other, cwd=tmp_path)
    kept = installed.run(*command, ours, cwd=tmp_path, variables={store.VARIABLE: "0"})
    assert "variable 0 shared True" in kept


@pytest.mark.slow
def test_program_that_is_not_torchrun(installed: Environment, tmp_path: Path) -> None:
    """Its arguments only look like those of torchrun."""
    (tmp_path / "train.py").write_text(PROGRAM.format(subject="basicsr"))
    said = installed.run("train.py", "torchrun", "-m", MODULE, "train.py", cwd=tmp_path)
    assert "variable None" in said


@pytest.mark.slow
def test_a_launcher_warns_where_the_plugin_is_not_installed(
    stock: Environment, repo_root: Path, options: Callable[..., Path], tmp_path: Path
) -> None:
    """Once, though there are two processes; the option file is missing, so that the run is short."""
    command = ["-m", MODULE, "--standalone", "--nproc_per_node=2", "--max_restarts=1"]
    launcher = repo_root / "basicsr" / "train.py"
    program = (launcher, "-opt", "no.yml", "--launcher", "pytorch")
    said = stock.run(*command, *program, cwd=tmp_path, fails=True)
    assert said.count("torchrun may start this training again") == 2, "once at each of two starts"
    said = stock.run(*command, *program, cwd=tmp_path, fails=True, variables={store.VARIABLE: "1"})
    assert "torchrun may start this training again" not in said


def test_costs_nothing_elsewhere(repo_root: Path, tmp_path: Path) -> None:
    """Its line reads the arguments; torchrun itself loads no torch for it, and a failure is silent."""
    line = (repo_root / HOOK).read_text().splitlines()[-2]
    assert min(timeit.repeat(lambda: exec(line), number=10, repeat=5)) / 10 < 1e-3
    said = subprocess.run(
        [sys.executable, "-c", f"import os, sys\nsys.argv = ['torchrun', 'train.py']\n"
         f"sys.orig_argv = ['python', *sys.argv]\n{line}\n"
         f"print(os.environ.get({store.VARIABLE!r}), 'torch' in sys.modules)"],
        cwd=tmp_path,
        env={**clean_environment(), "PYTHONPATH": str(repo_root)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said == "None False\n", "train.py is not there"
    assert store.VARIABLE not in os.environ
