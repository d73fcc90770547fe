"""Runs of one name at once, one after the other, and after one that was killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from basicsr.utils import logger as basicsr_logger
from helpers.small.options import paired_options
from helpers.stock_modules import patch, run_afresh

import basicsr.test
import basicsr.train
from lmlt_arch.errors import FAILED
from lmlt_arch.files import exclusive
from lmlt_arch.hook.patches import runs

fcntl = pytest.importorskip("fcntl")

Run = Callable[..., None]


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    opt = paired_options(tmp_path)
    opt["train"] |= {"total_iter": 2}
    opt["val"] |= {"val_freq": 100}
    return opt


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Trains or tests in this process, below the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(basicsr_logger, "initialized_logger", {"basicsr": True})

    def run(opt: dict[str, Any], *more: str, pipeline: str = "train") -> None:
        (tmp_path / "run.yml").write_text(yaml.safe_dump(opt))
        monkeypatch.setattr(sys, "argv", ["run", "-opt", str(tmp_path / "run.yml"), *more])
        getattr(getattr(basicsr, pipeline), f"{pipeline}_pipeline")(str(tmp_path))

    return run


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(run: Run, *args: Any, **more: Any) -> str:
    with pytest.raises(SystemExit) as ended:
        run(*args, **more)
    assert ended.value.code == FAILED
    return str(ended.value)


def names_now_free(folder: Path) -> bool:
    return not [*folder.glob("*/.*.lock")]


def test_a_name_in_use(options: dict[str, Any], run: Run, tmp_path: Path) -> None:
    """`"one-run-per-name"`, for fresh and resumed runs and for tests; nothing is touched."""
    options["name"] = "odd [name] é'$(x) %s"
    folder = tmp_path / "experiments" / options["name"]
    run(options)
    left = folder / "models" / ".net_g_2.pth.4194305.tmp"
    left.write_bytes(b"half")
    before = tree(folder)
    assert names_now_free(tmp_path)
    lock = folder.with_name(f".{folder.name}.lock")
    assert len(before) > 5
    state = str(folder / "training_states" / "2.state")
    with exclusive(lock, "training", "wait"):
        resumed = {**options, "path": {**options["path"], "resume_state": state}}
        for said in (refused(run, options), refused(run, options, "--auto_resume"), refused(run, resumed)):
            assert f"another training of {folder} is running: process {os.getpid()}" in said
            assert f"on {socket.gethostname()}" in said
            assert "give this run another name" in said
        assert {key: value for key, value in tree(tmp_path / "experiments").items() if key != lock} == before
        run({**options, "name": "other"})
    run({**options, "train": {**options["train"], "total_iter": 3}}, "--auto_resume")
    assert not left.exists()
    run(options)
    assert len([*folder.parent.glob("*_archived_*")]) == 1

    results = tmp_path / "results" / "measured"
    tested = {**options, "name": "measured", "datasets": {"test_1": options["datasets"]["val"]}}
    del tested["train"], tested["logger"]
    tested["path"] = {
        "pretrain_network_g": str(folder / "models" / "net_g_latest.pth"),
        "strict_load_g": True,
    }
    run(tested, pipeline="test")
    before = tree(results)
    with exclusive(results.with_name(".measured.lock"), "test", "wait"):
        assert f"another test of {results} is running" in refused(run, tested, pipeline="test")
    assert tree(results) == before
    assert names_now_free(tmp_path)


def test_a_run_that_failed_lets_go(options: dict[str, Any], run: Run, tmp_path: Path) -> None:
    """`"name-of-a-training-that-ended"` and `"name-of-a-test-that-ended"`."""
    (tmp_path / "experiments").write_text("no folder")
    assert f"cannot write {tmp_path / 'experiments'}" in refused(run, options)
    (tmp_path / "experiments").unlink()
    options["datasets"]["train"]["dataroot_gt"] = str(tmp_path / "nowhere")
    with pytest.raises((Exception, SystemExit)):
        run(options)
    assert names_now_free(tmp_path)


@pytest.mark.parametrize(("model", "held"), [("SRModel", False), ("LMLTModel", True)])
@pytest.mark.parametrize("is_pipeline", [True, False])
def test_only_runs_of_our_models_are_held(model: str, held: bool, is_pipeline: bool, tmp_path: Path) -> None:
    opt = {"model_type": model, "path": {"experiments_root": str(tmp_path / "experiments" / "x")}}
    names = run_afresh("basicsr.utils.options")
    names["parse_options"] = lambda: (opt, None)
    patch("one-run-per-name", names)
    script = {"parse_options": names["parse_options"], **({"make_exp_dirs": print} if is_pipeline else {})}
    exec("parse_options()", script)
    assert (tmp_path / "experiments" / ".x.lock").exists() is (held and is_pipeline)
    runs._running.close()


@pytest.mark.slow
def test_killed_and_started_again(options: dict[str, Any], run: Run, tmp_path: Path, repo_root: Path) -> None:
    """The lock is free at once, though a data worker of the killed run lives on."""
    options["train"]["total_iter"] = 100_000
    options["datasets"]["train"] |= {"num_worker_per_gpu": 1}
    options["logger"]["save_checkpoint_freq"] = 1
    (tmp_path / "long.yml").write_text(yaml.safe_dump(options))
    folder = tmp_path / "experiments" / "tiny"
    process = subprocess.Popen(
        [sys.executable, str(repo_root / "basicsr" / "train.py"), "-opt", str(tmp_path / "long.yml")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 120
        while not [*folder.glob("training_states/*.manifest.json")] and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.1)
        said = refused(run, options)
        assert f"process {process.pid} on {socket.gethostname()}" in said
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        # Between two epochs there is none.
        while not (workers := children.read_text().split()) and time.monotonic() < end:
            time.sleep(0.001)
        worker = workers[0]
        process.kill()
        process.wait()
        assert Path(f"/proc/{worker}").exists(), "the data worker"
        state = max(int(path.stem) for path in folder.glob("training_states/*.state"))
        options["train"]["total_iter"] = state + 2
        options["datasets"]["train"] |= {"num_worker_per_gpu": 0}
        run(options, "--auto_resume")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert not [*folder.rglob(".*.tmp")]
    assert torch.load(folder / "models" / "net_g_latest.pth", weights_only=True)
    shutil.rmtree(folder)
