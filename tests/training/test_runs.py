"""Whole runs that are killed, stopped, or meet a full disk, a damaged image or a loss that is not finite."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import forked
from helpers.small.sets import flip
from PIL import Image

from lmlt_arch.checkpoints.sets import Checkpoints
from lmlt_arch.errors import USAGE
from lmlt_arch.models.training_state import ENDING

pytestmark = pytest.mark.slow
Start = Callable[..., "subprocess.Popen[str]"]
Finish = Callable[..., str]


@pytest.fixture
def options(repo_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes an option file of a small LMLT that trains on eight pictures."""
    rng = np.random.default_rng(0)
    (tmp_path / "HR").mkdir()
    for number in range(8):
        pixels = rng.integers(0, 256, (40, 44, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "HR" / f"{number}.png")

    def write(train: dict[str, Any] | None = None, **data: Any) -> Path:
        opt: dict[str, Any] = yaml.safe_load((repo_root / "options" / "demo_LMLT_x4.yml").read_text())
        opt["name"] = "run"
        opt["network_g"] |= {"dim": 12, "n_blocks": 1}
        section = opt["datasets"]["train"]
        section.pop("dataroot_lq")
        section |= {"type": "DownsampleImageDataset", "dataroot_gt": str(tmp_path / "HR"), "gt_size": 32}
        section |= {"io_backend": {"type": "disk"}, "batch_size_per_gpu": 2, "num_worker_per_gpu": 1, **data}
        opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False}
        opt["train"] |= {"warmup_iter": -1, **(train or {})}
        opt["train"]["scheduler"]["periods"] = [opt["train"]["total_iter"]]
        (tmp_path / "run.yml").write_text(yaml.safe_dump(opt))
        return tmp_path / "run.yml"

    return write


@pytest.fixture
def start(repo_root: Path, tmp_path: Path) -> Iterator[Start]:
    """Types the command, before it a bash command if one is given; kills what still runs after the test."""
    started = []

    def start(file: Path, *more: str, before: str = ":") -> subprocess.Popen[str]:
        train = [sys.executable, str(repo_root / "basicsr" / "train.py"), "-opt", str(file), *more]
        process = subprocess.Popen(
            ["bash", "-c", f'{before}; exec "$@"', "train", *train],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo_root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def finish(repo_root: Path, tmp_path: Path) -> Finish:
    """Runs the command to its end, with the exit status that is expected; what it printed."""

    def finish(file: Path, *more: str, status: int = 0) -> str:
        train = repo_root / "basicsr" / "train.py"
        found, text = forked.finish(train, "-opt", file, *more, cwd=tmp_path)
        assert found == status, text
        return text

    return finish


def test_killed_runs_end_like_one_that_was_not(repo_root: Path) -> None:
    """Two networks and their optimizers; a run of one network is killed by signals below."""
    command = [sys.executable, str(repo_root / "scripts" / "prove_resume.py"), "--kills", "1", "--seed", "1"]
    done = subprocess.run(
        [*command, "--models", "ESCReal_GAN"], stdout=subprocess.PIPE, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("equal bit for bit") == 1


@pytest.mark.parametrize("came", ENDING)
def test_a_signal_saves_and_leaves(
    options: Callable[..., Path], start: Start, finish: Finish, tmp_path: Path, came: signal.Signals
) -> None:
    """First to the process alone, then to the whole group of a run that goes on from there."""
    file = options(train={"total_iter": 100_000})
    saved = 0
    for send in (os.kill, os.killpg):
        process = start(file, "--auto_resume")
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if re.search(rf"iter: +{saved + 3},", line):
                send(process.pid, came)
        text = "".join(printed)
        assert process.wait(timeout=120) == 128 + came, text
        _went_on(text, saved)
        (found,) = re.findall(rf"{came.name}: saved at iteration (\d+) and leaving", text)
        state = torch.load(tmp_path / f"experiments/run/training_states/{found}.state", weights_only=True)
        assert state["iter"] == int(found) >= saved + 3
        saved = int(found)

    text = finish(options(train={"total_iter": saved + 1}), "--auto_resume")
    _went_on(text, saved)


def test_a_signal_to_one_process_ends_all_alike(options: Callable[..., Path], start: Start) -> None:
    """Started as by srun; the second process gets the signal, the first writes the log."""
    file = options(train={"total_iter": 100_000})
    with socket.create_server(("127.0.0.1", 0)) as free:
        step = f"SLURM_NTASKS=2 SLURM_NODELIST=localhost MASTER_PORT={free.getsockname()[1]}"
    first, second = (
        start(
            file,
            *("--launcher", "slurm"),
            before=f"export CUDA_VISIBLE_DEVICES= {step} SLURM_PROCID={rank} SLURM_LOCALID={rank}",
        )
        for rank in (0, 1)
    )
    assert first.stdout is not None
    printed = []
    for line in first.stdout:
        printed.append(line)
        if re.search(r"iter: +3,", line):
            second.send_signal(signal.SIGUSR1)
    text = "".join(printed)
    assert len(re.findall(r"SIGUSR1: saved at iteration \d+ and leaving", text)) == 1, text
    assert [process.wait(timeout=120) for process in (first, second)] == [128 + signal.SIGUSR1] * 2


def _went_on(text: str, saved: int) -> None:
    """Whether a run went on exactly from an iteration; 0 for the first one."""
    assert text.count("Resuming training from epoch: 0, iter: ") == (saved > 0)
    assert not saved or f"iter: {saved}." in text
    assert "starts again" not in text
    assert "inexactly" not in text


def test_a_run_goes_on_from_the_newest_whole_checkpoint(
    options: Callable[..., Path], finish: Finish, tmp_path: Path
) -> None:
    alone = {"num_worker_per_gpu": 0, "persistent_workers": False}
    file = options(train={"total_iter": 5, "deterministic": True}, **alone)
    finish(file)
    run = tmp_path / "experiments" / "run"
    final, newest = run / "models" / "net_g_latest.pth", run / "models" / "net_g_4.pth"
    expected = {path: torch.load(path, weights_only=True)["params"] for path in (final, newest)}
    final.unlink()
    flip(newest)

    # Named in the option file, it is refused; with --auto_resume, what the file names is not read.
    opt = yaml.safe_load(file.read_text())
    opt["path"]["resume_state"] = str(run / "training_states" / "4.state")
    file.write_text(yaml.safe_dump(opt))
    text = finish(file, status=USAGE)
    assert "Traceback" not in text
    assert re.search(r"net_g_4.pth: damaged: .* resume from .*/2\.state, which is whole", text), text

    text = finish(file, "--auto_resume")
    assert text.count("Checkpoints cannot be used: ") == 1
    assert re.search(r"net_g_4.pth: damaged: .*\. Going on from .*/2\.state\.", text), text
    assert "Resuming training from epoch: 0, iter: 2." in text
    for path, weights in expected.items():
        again = torch.load(path, weights_only=True)["params"]
        assert all(torch.equal(again[name], weights[name]) for name in weights)
    sets = Checkpoints(run / "training_states", run / "models")
    assert sets.to_resume() == (run / "training_states" / "4.state", "")


def test_a_full_disk_keeps_the_checkpoints_before_it(
    options: Callable[..., Path], start: Start, finish: Finish, tmp_path: Path
) -> None:
    finish(options(train={"total_iter": 2}))
    states = tmp_path / "experiments" / "run" / "training_states"
    before = {path.name: path.read_bytes() for path in states.iterdir()}
    assert "2.state" in before

    # A limit on the size of files meets the writer half-way, as a full disk does. (What a loader shares with
    # its workers would count too.)
    alone = {"num_worker_per_gpu": 0, "persistent_workers": False}
    process = start(options(train={"total_iter": 4}, **alone), "--auto_resume", before="ulimit -f 40")
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "Checkpoint 4 was not saved: cannot write" in text, text
    assert text.rstrip().endswith("net_g_latest.pth: File too large"), "the end of a run must not pretend"
    assert "Traceback" not in text
    assert {path.name: path.read_bytes() for path in states.iterdir()} == before

    assert "iter: 2." in finish(options(train={"total_iter": 4}), "--auto_resume")
    assert (states / "4.state").is_file()


@pytest.mark.parametrize("how", ["fatal", "skip"])
def test_a_damaged_image(options: Callable[..., Path], finish: Finish, tmp_path: Path, how: str) -> None:
    broken = tmp_path / "HR" / "5.png"
    broken.write_bytes(broken.read_bytes()[:900])
    text = finish(options(train={"total_iter": 8}, damaged_images=how), status=int(how == "fatal"))
    assert "Traceback" not in text
    assert text.count(f"{broken}") == 1
    if how == "fatal":
        assert "go on without it: 'damaged_images: skip' under datasets: train" in text.splitlines()[-1]
    else:
        assert f"Skipped: {broken}" in text


def test_a_loss_that_is_not_finite(options: Callable[..., Path], finish: Finish, tmp_path: Path) -> None:
    optimizer = {"type": "SGD", "lr": 1e15}
    text = finish(options(train={"total_iter": 9, "optim_g": optimizer}), status=1)
    assert "Traceback" not in text
    last = text.splitlines()[-1]
    found = re.search(r"iteration \d: l_pix is (?:nan|inf).*HR/\d\.png; it is kept in (\S+)\. Resume", last)
    assert found, last
    assert {path.name for path in Path(found[1]).iterdir()} == {"batch.pth", "lq.png", "gt.png"}
