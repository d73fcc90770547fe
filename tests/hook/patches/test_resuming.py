"""One decision of all processes: real trainings of two, on one disk or two, started once more by whomever."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import forked
from PIL import Image

from lmlt_arch.checkpoints.sets import Checkpoints
from lmlt_arch.errors import FAILED, USAGE

pytestmark = pytest.mark.slow
Train = Callable[..., tuple[int, str]]
PSNR = {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": False}


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
    half = tmp_path / "b/experiments/run/models/.net_g_8.pth.4194305.tmp"  # of a process that was killed
    half.write_bytes(b"half")
    status, text = train(6, "c", "b", more=("--auto_resume",))
    assert status == 0, text
    assert not half.exists()
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
    assert "Checkpoint 8 has no random numbers of process 1-2, which begins new ones" in said[2]
    for name, tensor in weights(tmp_path / "a").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
    status, text = train(8, "a", more=("--auto_resume",))
    assert "is of iteration 12, and total_iter is 8: nothing is left to train" in text
    options["train"]["optim_g"] = {"type": "Adam", "lr": 0.1}
    status, text = train(12, "a", more=("--auto_resume",))
    assert status == USAGE
    assert "12.state is of another optimizer than Adam: it has no " in text


@pytest.fixture
def torchrun(tmp_path: Path, options: dict[str, Any], repo_root: Path) -> Callable[..., str]:
    """Trains by torchrun on one machine; what it printed. `first` is Python that runs before the training."""

    def torchrun(until: int, *, first: str = "", processes: int = 1, more: tuple[str, ...] = ()) -> str:
        options["train"]["total_iter"] = until
        (tmp_path / "run.yml").write_text(yaml.safe_dump(options))
        program = tmp_path / "start.py"
        train = repo_root / "basicsr" / "train.py"
        program.write_text(
            f"import os, runpy, signal, sys\nattempt = os.environ['TORCHELASTIC_RESTART_COUNT']\n{first}\n"
            f"sys.argv[0] = {str(train)!r}\nrunpy.run_path({str(train)!r}, run_name='__main__')\n"
        )
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max_restarts=2"]
        command += [f"--nproc_per_node={processes}", str(program), "-opt", str(tmp_path / "run.yml"), *more]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        env["PYTHONPATH"] = str(repo_root)
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        return done.stdout + done.stderr

    return torchrun


KILLED = """
if attempt == '0':
    from lmlt_arch.hook import finder
    finder.install()
    from lmlt_arch.models import LMLTModel
    stock = LMLTModel.update_learning_rate
    def update(self, current_iter, warmup_iter=-1):
        if current_iter == AT:
            os.kill(os.getpid(), signal.SIGKILL)
        stock(self, current_iter, warmup_iter)
    LMLTModel.update_learning_rate = update
"""


@pytest.mark.parametrize(("at", "again"), [(4, [3, 4, 5]), (2, [1, 2, 3, 4, 5])])
def test_a_restart_by_torchrun_goes_on(
    torchrun: Callable[..., str], tmp_path: Path, at: int, again: list[int]
) -> None:
    """`"folders-of-a-run"`: not in another folder, also before the first checkpoint."""
    text = torchrun(5, first=KILLED.replace("AT", str(at)), processes=1)
    assert "torchrun has started the processes again: going on as with --auto_resume" in text
    assert losses(text) == [*range(1, at), *again]
    assert archived(tmp_path) == []


def test_a_restart_does_not_take_another_run_for_its_own(
    torchrun: Callable[..., str], train: Train, tmp_path: Path
) -> None:
    """The first start died before it made a folder; the one that lies there is older."""
    status, text = train(4, ".")
    assert status == 0, text
    text = torchrun(3, first="if attempt == '0': sys.exit(1)")
    assert losses(text) == [1, 2, 3]
    assert len(archived(tmp_path)) == 1


SLOW = """
from lmlt_arch.hook import finder
finder.install()
import atexit, glob, time, torch
from lmlt_arch.models.saving import CheckpointFiles

def slow(name):
    stock = getattr(CheckpointFiles, name)
    def write(*args, **kwargs):
        time.sleep(3)
        return stock(*args, **kwargs)
    setattr(CheckpointFiles, name, write)

for name in ("write_networks", "write_state") if attempt + os.environ["RANK"] == "00" else ():
    slow(name)
def leave():
    files = [each for each in ("models/net_g_latest.pth", "training_states/*.manifest.json")
             if glob.glob(f"experiments/run/{each}")]
    line = f"process {os.environ['RANK']} leaves {files} {torch.distributed.is_initialized()}\\n"
    os.write(1, line.encode())  # at once: the processes share the output
atexit.register(leave)
"""


def test_all_processes_stay_until_the_last_file_is_written(torchrun: Callable[..., str]) -> None:
    """`"processes-that-end-together"`."""
    text = torchrun(1, first=SLOW, processes=2, more=("--launcher", "pytorch"))
    assert losses(text) == [1]
    for rank in (0, 1):
        assert f"process {rank} leaves ['models/net_g_latest.pth'] False" in text
    assert "exitcode" not in text


def test_all_processes_stay_until_a_set_is_whole(torchrun: Callable[..., str]) -> None:
    """After a signal; torchrun ends the process that still writes once another one has left."""
    signaled = KILLED.replace("AT", "1").replace("SIGKILL", "SIGTERM")
    text = torchrun(3, first=SLOW + signaled, processes=2, more=("--launcher", "pytorch"))
    assert re.findall(r"SIGTERM: (.*) at iteration", text) == ["saved"]
    for rank in (0, 1):
        assert f"process {rank} leaves ['training_states/*.manifest.json']" in text


FULL = """
from lmlt_arch.hook import finder
finder.install()
from lmlt_arch.files import OutputError
from lmlt_arch.models.saving import CheckpointFiles
stock = CheckpointFiles.write_state

def write_state(self, epoch, current_iter, *more):
    if current_iter > 2:
        raise OutputError("no space left")
    stock(self, epoch, current_iter, *more)
CheckpointFiles.write_state = write_state
"""


def test_a_full_disk_of_the_first_process_takes_nothing_from_the_others(
    torchrun: Callable[..., str], tmp_path: Path
) -> None:
    """Not even after more failures than there are files of a process that are kept."""
    text = torchrun(9, first=FULL, processes=2, more=("--launcher", "pytorch"))
    assert text.count("was not saved: process 0: no space left. Going on.") == 3
    states = tmp_path / "experiments/run/training_states"
    assert Checkpoints(states, states.with_name("models"), rank=None).newest_whole()[0] == states / "2.state"
    assert (states / "2.rank1.pth").exists() and (states / "2.manifest.json").exists()


def test_torchrun_without_its_launcher_is_refused(torchrun: Callable[..., str], tmp_path: Path) -> None:
    text = torchrun(2, processes=2)
    assert "torchrun has started 2 processes, each of which would train for itself: add --launcher" in text
    assert not (tmp_path / "experiments").exists()


def test_a_restart_by_slurm_goes_on(train: Train, tmp_path: Path) -> None:
    status, text = train(3, "a", SLURM_JOB_ID="5")
    assert losses(text) == [1, 2, 3], text
    status, text = train(4, "a", SLURM_JOB_ID="5", SLURM_RESTART_COUNT="1")
    assert "SLURM has started the job again: going on as with --auto_resume" in text
    assert losses(text) == [3, 4]
    assert archived(tmp_path / "a") == []
    # The same job's next training, in a folder of an earlier job.
    status, text = train(2, "a", SLURM_JOB_ID="6", SLURM_RESTART_COUNT="1")
    assert (status, losses(text)) == (0, [1, 2])
    assert len(archived(tmp_path / "a")) == 1


def test_a_run_that_was_gone_back_in_does_not_jump_ahead(
    train: Train, options: dict[str, Any], tmp_path: Path
) -> None:
    """From checkpoint 2 of a run that had reached 8, with another learning rate."""
    status, text = train(8, "a")
    assert status == 0, text
    options["path"]["resume_state"] = str(tmp_path / "a/experiments/run/training_states/2.state")
    options["logger"]["keep_checkpoints"] = 1
    status, text = train(5, "a", SLURM_JOB_ID="5")
    assert losses(text) == [3, 4, 5], text
    status, text = train(6, "a", SLURM_JOB_ID="5", SLURM_RESTART_COUNT="1")
    assert "8 are of another run of this name" in text
    assert losses(text) == [5, 6]
    status, text = train(7, "a", more=("--auto_resume",))
    assert losses(text) == [7]
    assert "inexactly" not in text


def test_a_run_goes_on_from_where_it_began(train: Train, options: dict[str, Any], tmp_path: Path) -> None:
    """While it has no whole checkpoint of its own; newer ones are those of the run that it left."""
    status, text = train(8, "a")
    assert status == 0, text
    states = tmp_path / "a/experiments/run/training_states"
    options["path"]["resume_state"] = str(states / "2.state")
    status, text = train(3, "a")
    assert losses(text) == [3], text
    options["path"]["resume_state"] = None
    status, text = train(5, "a", more=("--auto_resume",))
    assert losses(text) == [3, 4, 5], text
    (states / "4.state").write_bytes(b"damaged")
    status, text = train(4, "a", more=("--auto_resume",))
    assert losses(text) == [3, 4], text
    assert "4.state" in text
    # As ever, --auto_resume ignores the key; where that means a start at 0, it says so.
    options["path"]["resume_state"] = str(states / "2.state")
    status, text = train(1, "b", more=("--auto_resume",))
    assert losses(text) == [1], text
    assert "2.state is ignored: training begins at iteration 0" in text


def test_another_run_on_another_disk_is_left_alone(
    train: Train, options: dict[str, Any], tmp_path: Path
) -> None:
    status, text = train(6, "b")
    assert status == 0, text
    before = (tmp_path / "b/experiments/run/models/net_g_6.pth").read_bytes()
    status, text = train(2, "a")
    assert status == 0, text
    status, text = train(4, "a", "b", more=("--auto_resume",))
    assert losses(text) == [3, 4], text
    assert "6 are of another run of this name" in text
    assert (tmp_path / "b/experiments/run/models/net_g_6.pth").read_bytes() == before


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
    status, text = train(3, "b")
    assert status == 0, text
    given = tmp_path / "b/experiments/run/training_states/2.state"
    for disk, lr, state in (("a", 1e-3, None), ("b", 2e-3, str(given))):
        options["train"]["optim_g"]["lr"] = lr
        options["logger"]["save_checkpoint_freq"] = int(lr * 1000)
        options["path"]["resume_state"] = state
        (tmp_path / disk).mkdir(exist_ok=True)
        (tmp_path / disk / "own.yml").write_text(yaml.safe_dump(options))
    program = Path(__file__).with_name("own_disk.py")
    words = [program, "a,b", "-opt", "own.yml", "--launcher", "pytorch"]
    status, text = forked.finish(*words, cwd=tmp_path, processes=2)
    assert status == USAGE
    assert text.count("the processes have different options: ") == 1
    for difference in (
        "train: optim_g: lr: 0.001 on process 0, 0.002 on process 1",
        "logger: save_checkpoint_freq: 1 on process 0, 2 on process 1",
        "path: resume_state: none on process 0, 2.state on process 1",
    ):
        assert difference in text
    assert "Traceback" not in text
    assert not (tmp_path / "a/experiments").exists()


def test_a_folder_that_one_machine_cannot_make_ends_all(train: Train, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "experiments").write_text("no folder")
    status, text = train(2, "a", "b")
    assert status == FAILED
    assert "the folder of the run cannot be written: process 1: " in text
    assert "Traceback" not in text
    assert {path.name for path in (tmp_path / "a/experiments").iterdir()} == {"run"}


def test_machines_with_different_validation_sets_do_not_begin(
    train: Train, options: dict[str, Any], tmp_path: Path
) -> None:
    for disk, images in (("a", 2), ("b", 1)):
        for folder in ("gt", "lq"):
            (tmp_path / disk / folder).mkdir(parents=True)
            for number in range(images):
                shutil.copy(tmp_path / "HR" / f"{number}.png", tmp_path / disk / folder)
    val = {"name": "Set2", "type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq"}
    options["datasets"]["val"] = {**val, "io_backend": {"type": "disk"}}
    options["val"] = {"val_freq": 2, "save_img": False, "metrics": {"psnr": PSNR}}
    status, text = train(2, "a", "b")
    assert status == FAILED
    assert "the same validation sets: images of Set2: 2 on process 0, 1 on process 1" in text
    assert losses(text) == []
