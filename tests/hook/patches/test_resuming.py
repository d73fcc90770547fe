"""One decision of all processes: real trainings of two, on one disk or two, started once more by whomever."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import forked
from PIL import Image

from lmlt_arch.errors import USAGE
from lmlt_arch.hook import restarts

pytestmark = pytest.mark.slow
Train = Callable[..., tuple[int, str]]


@pytest.fixture
def options(repo_root: Path, tmp_path: Path) -> dict[str, Any]:
    """A small LMLT on thirteen pictures, eight of them a step."""
    rng = np.random.default_rng(0)
    (tmp_path / "HR").mkdir()
    for number in range(13):
        pixels = rng.integers(0, 256, (40, 44, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "HR" / f"{number}.png")
    opt: dict[str, Any] = yaml.safe_load((repo_root / "options" / "demo_LMLT_x4.yml").read_text())
    opt["name"] = "run"
    opt["network_g"] |= {"dim": 12, "n_blocks": 1}
    data = opt["datasets"]["train"]
    data.pop("dataroot_lq")
    data |= {"type": "DownsampleImageDataset", "dataroot_gt": str(tmp_path / "HR"), "gt_size": 32}
    data |= {"io_backend": {"type": "disk"}, "batch_size_per_gpu": 8, "num_worker_per_gpu": 0}
    opt["datasets"].pop("val", None)
    opt.pop("val", None)
    opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False}
    opt["train"] |= {"total_batch": 8, "total_iter": 4, "warmup_iter": -1, "deterministic": True}
    opt["train"]["scheduler"]["periods"] = [100]
    return opt


@pytest.fixture
def train(tmp_path: Path, options: dict[str, Any]) -> Train:
    """Trains to an iteration, with a process for each of the disks; its exit status and what it printed."""

    def train(until: int, *disks: str, more: tuple[str, ...] = (), **env: str) -> tuple[int, str]:
        options["train"]["total_iter"] = until
        (tmp_path / "run.yml").write_text(yaml.safe_dump(options))
        program = Path(__file__).with_name("own_disk.py")
        launcher = ["--launcher", "pytorch"] if len(disks) > 1 else []
        words = [program, ",".join(disks), "-opt", str(tmp_path / "run.yml"), *launcher, *more]
        return forked.finish(*words, cwd=tmp_path, processes=len(disks), env={**os.environ, **env})

    return train


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "experiments/run/models/net_g_latest.pth", weights_only=True)
    return {f"{key} {name}": tensor for key, state in content.items() for name, tensor in state.items()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def archived(folder: Path) -> list[str]:
    return [path.name for path in (folder / "experiments").glob("*_archived_*")]


def losses(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"iter: +(\d+), ", text)]


def test_machines_without_a_shared_disk_go_on_together(train: Train, tmp_path: Path) -> None:
    """`"one-decision-of-all-processes"`: the second machine lacks all that the first one wrote for both."""
    status, text = train(8, "whole", "whole")
    assert status == 0, text
    status, text = train(4, "a", "b")
    assert status == 0, text
    assert not (tmp_path / "b/experiments/run/training_states/4.state").exists()
    status, text = train(8, "a", "b", more=("--auto_resume",))
    assert status == 0, text
    assert losses(text) == [5, 6, 7, 8]
    assert "inexactly" not in text
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "whole"))
    # The machine of rank 0 is lost: the other one has what it received, and the ranks are others.
    status, text = train(6, "c", "b", more=("--auto_resume",))
    assert status == 0, text
    assert losses(text) == [5, 6]
    assert (tmp_path / "c/experiments/run/training_states/4.state").exists()


def test_processes_come_and_go(train: Train, options: dict[str, Any], tmp_path: Path) -> None:
    """Two, then one, then three processes: the batches are those of one process all along."""
    # Not Adam, which makes whole steps of gradients that are rounding alone.
    options["train"]["optim_g"] = {"type": "SGD", "lr": 0.1}
    status, text = train(12, "one")
    assert status == 0, text
    expected = weights(tmp_path / "one")
    said = []
    for until, disks in ((4, ("a", "a")), (8, ("a",)), (12, ("a", "a", "a"))):
        status, text = train(until, *disks, more=("--auto_resume",))
        assert status == 0, text
        said.append(text)
    assert losses(said[1]) == [5, 6, 7, 8]
    assert losses(said[2]) == [9, 10, 11, 12]
    assert "Resuming with 1 process instead of 2, the batch in total stays 8." in said[1]
    assert "Resuming with 3 processes instead of 1, the batch in total stays 8." in said[2]
    for name, tensor in weights(tmp_path / "a").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"TORCHELASTIC_RESTART_COUNT": "1"}, "torchrun has started the processes again"),
        ({"SLURM_RESTART_COUNT": "2"}, "SLURM has started the job again"),
        ({"TORCHELASTIC_RUN_ID": "x"}, "torchrun has formed the group of processes again"),
    ],
)
def test_a_restart_goes_on(train: Train, tmp_path: Path, env: dict[str, str], said: str) -> None:
    """`"folders-of-a-run"`: not from the beginning, and not in another folder."""
    status, text = train(3, "a", **env)
    assert status == 0, text
    assert losses(text) == [1, 2, 3]
    status, text = train(4, "a", **env)
    assert status == 0, text
    assert f"{said}: going on as with --auto_resume" in text
    assert losses(text) == [3, 4]
    assert archived(tmp_path / "a") == []
    # Before the first checkpoint there is nothing to go on from; the folder keeps its name all the same.
    for path in (tmp_path / "a/experiments/run").glob("*/*"):
        path.unlink()
    status, text = train(2, "a", **env)
    assert status == 0, text
    assert losses(text) == [1, 2]
    assert archived(tmp_path / "a") == []
    # Without a sign of a restart, a new run begins.
    status, text = train(2, "a")
    assert losses(text) == [1, 2]
    assert len(archived(tmp_path / "a")) == 1


def test_a_restart_before_the_first_checkpoint_begins_where_the_run_began(
    train: Train, options: dict[str, Any], tmp_path: Path
) -> None:
    status, text = train(2, "a")
    assert status == 0, text
    run = tmp_path / "a/experiments/run"
    (tmp_path / "a/experiments/first").mkdir()
    kept = tmp_path / "a/experiments/first/2.state"
    kept.write_bytes((run / "training_states/2.state").read_bytes())
    for path in (run / "training_states").iterdir():
        path.unlink()
    options["path"]["resume_state"] = str(kept)
    status, text = train(3, "a", TORCHELASTIC_RESTART_COUNT="1")
    assert status == 0, text
    assert losses(text) == [3]


def test_a_new_run_leaves_no_checkpoints_of_older_ones_behind(train: Train, tmp_path: Path) -> None:
    """An older run with one process on the second machine; what it left must not be gone on from."""
    status, text = train(4, "b")
    assert status == 0, text
    status, text = train(2, "a", "b")
    assert status == 0, text
    assert losses(text) == [1, 2]
    assert archived(tmp_path / "a") == []
    assert len(archived(tmp_path / "b")) == 1
    status, text = train(4, "a", "b", more=("--auto_resume",))
    assert losses(text) == [3, 4]


def test_processes_with_different_options_do_not_begin(
    train: Train, options: dict[str, Any], tmp_path: Path
) -> None:
    """The option file of each machine is relative to its own folder."""
    for disk, lr in (("a", 1e-3), ("b", 2e-3)):
        options["train"]["optim_g"]["lr"] = lr
        (tmp_path / disk).mkdir()
        (tmp_path / disk / "own.yml").write_text(yaml.safe_dump(options))
    program = Path(__file__).with_name("own_disk.py")
    words = [program, "a,b", "-opt", "own.yml", "--launcher", "pytorch"]
    status, text = forked.finish(*words, cwd=tmp_path, processes=2)
    assert status == USAGE
    assert (
        text.count("the processes have different options: train: optim_g: lr: 0.001 on process 0, 0.002") == 1
    )
    assert "Traceback" not in text
    assert not (tmp_path / "a/experiments").exists()


def test_records(tmp_path: Path) -> None:
    assert restarts.read_record(tmp_path) == {}
    restarts.write_record(tmp_path, ["b", "", "a", "b"], "x")
    assert restarts.read_record(tmp_path) == {"agents": ["a", "b"], "start": ["x"]}
    (tmp_path / restarts.RECORD).write_text("[")
    assert restarts.read_record(tmp_path) == {}
    assert restarts.agent_of({}) == ""
    agent = restarts.agent_of({"TORCHELASTIC_RUN_ID": "none"})
    assert agent.split(":")[1] == str(os.getppid())
    assert agent.split(":")[2].isdecimal()
    restarts.write_record(tmp_path, [agent], "y")
    assert restarts.is_restart(tmp_path, {"TORCHELASTIC_RUN_ID": "none"})
    assert not restarts.is_restart(tmp_path, {})
    assert not restarts.is_restart(tmp_path, {"TORCHELASTIC_RESTART_COUNT": "0"})
