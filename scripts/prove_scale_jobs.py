"""Trainings on two machines, as `prove_scale.py` needs them: two torchruns on loopback, each in a folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
NAME = "scale"
ITERATIONS, SAVE_EVERY, IMAGES, TOTAL_BATCH = 24, 4, 13, 8
PATIENCE_S = 300
"""How long a training may run, or take to come back, before it counts as one that hangs."""

# A machine that is gone is missed after three intervals; by default, of five seconds.
_RENDEZVOUS = "keep_alive_interval=1,join_timeout=120,last_call_timeout=5"
_LOSSES = re.compile(r"iter: +([\d,]+), .*\)\] (l_.*)")

Losses = dict[int, str]

Stretch = tuple[int, int]
"""The iteration that a part of a training starts from, and its number of processes."""


def losses(log: Iterable[str]) -> Losses:
    """Loss terms by iteration, as they were printed; of an iteration that came twice, the later ones."""
    found = (_LOSSES.search(line) for line in log)
    return {int(match[1].replace(",", "")): match[2].strip() for match in found if match}


class Agent:
    """One torchrun and all below it: a machine.

    Args:
        command: of torchrun.
        folder: its working directory, which is its disk.
        entry: gets each line that it prints.
    """

    def __init__(self, command: list[str], folder: Path, entry: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # This checkout first; BasicSR may be in another folder of PYTHONPATH.
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.command, self.folder = command, folder
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
                "PYTHONPATH": os.pathsep.join(paths),
                # As the plugin does where it is installed.
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(entry,), daemon=True)
        self._reader.start()

    def _read(self, entry: Callable[[str], None]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            entry(line)

    def workers(self) -> list[int]:
        """The training's processes on this machine."""
        return _children(self.process.pid)

    def die(self) -> None:
        """End torchrun and all below it at once; the system closes their connections, as in a reboot."""
        below = _descendants(self.process.pid)
        # Without torchrun, nobody starts processes again; none of them gets to see that another is gone.
        for pid in [self.process.pid, *below]:
            _kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End as a scheduler ends a job: SIGTERM, and after a while SIGKILL."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        self.die()

    def close(self) -> None:
        """Wait for the end of what it prints."""
        self._reader.join(10)


@dataclass
class Job:
    """One start of a training.

    Attributes:
        options: the option file.
        folders: the working directory of each machine, the same one for a shared disk.
        world: its number of processes.
        more: arguments of the training besides `-opt` and `--launcher`.
        restarts: how often torchrun may start its processes again.
        elastic: whether the training goes on without a machine that is lost, and takes another one in.
        log: all lines so far.
    """

    options: Path
    folders: list[Path]
    world: int
    more: tuple[str, ...] = ()
    restarts: int = 0
    elastic: bool = False
    log: list[str] = field(default_factory=list)
    agents: list[Agent] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.world < len(self.folders):
            self.folders = self.folders[: self.world]
        self._port = _free_port()
        for number, folder in enumerate(self.folders):
            self.agents.append(Agent(self._command(number), folder, self.log.append))
            if number == 0 and len(self.folders) > 1:
                self._wait_for_store()

    def replace(self, number: int) -> None:
        """Put another machine in the place of one that died."""
        self.agents[number] = Agent(self._command(number), self.folders[number], self.log.append)

    def wait_for(self, done: Callable[[], bool]) -> bool:
        """Wait until something is so or the training has ended; returns whether it came to one of them."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if done() or self.ended():
                return True
            time.sleep(0.02)
        return False

    def wait_for_iteration(self, iteration: int) -> bool:
        """Whether the training came to an iteration."""
        return self.wait_for(lambda: max(losses(self.log[:]), default=0) >= iteration) and not self.ended()

    def wait_for_end(self) -> str:
        """Wait until all machines are done; returns what is wrong, or ''."""
        if not self.wait_for(self.ended):
            return "it hangs"
        for agent in self.agents:
            agent.close()
        ends = [agent.process.returncode for agent in self.agents]
        return "" if not any(ends) else f"it fails with {ends}"

    def ended(self) -> bool:
        """Whether all machines are done."""
        return all(agent.process.poll() is not None for agent in self.agents)

    def stop(self) -> None:
        """End all machines that still run."""
        threads = [threading.Thread(target=agent.stop) for agent in self.agents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for agent in self.agents:
            agent.close()

    def die(self) -> None:
        """Kill all machines."""
        for agent in self.agents:
            agent.die()

    def _command(self, number: int) -> list[str]:
        count = len(self.folders)
        nodes = f"1:{count}" if self.elastic else count
        share = self.world // count + (number < self.world % count)
        return [
            *(sys.executable, "-m", "torch.distributed.run"),
            *(
                f"--nnodes={nodes}",
                f"--nproc_per_node={share}",
                f"--max_restarts={self.restarts}",
            ),
            *("--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{self._port}", f"--rdzv_id={self._port}"),
            f"--rdzv_conf={_RENDEZVOUS},is_host={int(number == 0)}",
            *(str(ROOT / "basicsr" / "train.py"), "-opt", str(self.options), "--launcher", "pytorch"),
            *self.more,
        ]

    def _wait_for_store(self) -> None:
        """The first machine hosts the store, and comes first among the machines."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and not self.ended():
            with socket.socket() as probe:
                if probe.connect_ex(("localhost", self._port)) == 0:
                    return
            time.sleep(0.1)


class References:
    """Trainings that were never killed.

    Args:
        work: where they are.
        options: the option file of those that are killed.
    """

    def __init__(self, work: Path, options: Path) -> None:
        self.work, self.options = work, options
        # Another training may have been stopped after any iteration.
        opt = yaml.safe_load(options.read_text())
        opt["logger"] |= {"save_checkpoint_freq": 1}
        self._saving = options.with_stem("reference")
        self._saving.write_text(yaml.safe_dump(opt))
        self._found: dict[tuple[Stretch, ...], tuple[Path, Losses]] = {}

    def of(self, stretches: tuple[Stretch, ...]) -> tuple[Path, Losses]:
        """The folder and the losses of a training that was stopped where a stretch starts, and resumed."""
        if stretches not in self._found:
            folder = self.work / "_".join(["reference", *(f"{start}x{world}" for start, world in stretches)])
            start, world = stretches[-1]
            earlier: Losses = {}
            if len(stretches) > 1:
                before, earlier = self.of(stretches[:-1])
                copy_until(start, before, folder)
            job = Job(self._saving, [folder] * 2, world, ("--auto_resume",) if start else ())
            try:
                wrong = job.wait_for_end()
            finally:
                job.die()
            if wrong:
                sys.exit(f"A training without failures does not work, {wrong}:\n{''.join(job.log[-60:])}")
            kept = {i: terms for i, terms in earlier.items() if i <= start}
            self._found[stretches] = folder, {**kept, **losses(job.log)}
        return self._found[stretches]


def weights(disk: Path) -> dict[str, Tensor]:
    """The network and its average at the end of a training."""
    path = disk / "experiments" / NAME / "models" / "net_g_latest.pth"
    content: dict[str, dict[str, Tensor]] = torch.load(path, weights_only=True)
    return {
        f"{part}.{name}": tensor
        for part in ("params", "params_ema")
        for name, tensor in content[part].items()
    }


def write_images(folder: Path) -> None:
    """Images to train with, of a number that no step divides."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
        coarse.resize((110, 100), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")


def option_file(work: Path) -> Path:
    """Write the demo's options, smaller, for the images in this folder; returns where."""
    opt: dict[str, Any] = yaml.safe_load((ROOT / "options" / "demo_LMLT_x4.yml").read_text())
    opt |= {"name": NAME, "num_gpu": 0, "path": {"pretrain_network_g": None, "resume_state": None}}
    opt["network_g"] |= {"dim": 12, "n_blocks": 1}
    opt["train"] |= {"total_iter": ITERATIONS, "warmup_iter": 3, "deterministic": True}
    opt["train"]["total_batch"] = TOTAL_BATCH
    # A gradient that is zero but for the order of sums must not move a weight by a whole step.
    opt["train"]["optim_g"] |= {"eps": 1e-4}
    opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": SAVE_EVERY, "use_tb_logger": False}
    # Epochs end within steps, and failures fall into several.
    data: dict[str, Any] = opt["datasets"]["train"]
    data |= {"type": "DownsampleImageDataset", "gt_size": 96, "batch_size_per_gpu": 2}
    data |= {"dataset_enlarge_ratio": 3, "num_worker_per_gpu": 0, "io_backend": {"type": "disk"}}
    data["dataroot_gt"] = str((work / "images").resolve())
    data.pop("dataroot_lq")
    opt["dist_params"] = {"timeout": 60}
    path = work / "scale.yml"
    path.write_text(yaml.safe_dump(opt))
    return path.resolve()


def kill_worker(agent: Agent, number: int) -> None:
    """Kill a process of the training; torchrun goes on."""
    workers = agent.workers()
    if workers:
        _kill(workers[number % len(workers)], signal.SIGKILL)


def copy_until(iteration: int, source: Path, target: Path) -> None:
    """A folder as it was after a checkpoint."""
    shutil.copytree(source, target)
    home = target / "experiments" / NAME
    for path in [*(home / "training_states").iterdir(), *(home / "models").iterdir()]:
        number = path.name.partition(".")[0].rpartition("_")[2]
        if not number.isdigit() or int(number) > iteration:
            path.unlink()


def hang(agent: Agent) -> None:
    """Stop the processes of a machine where they are, as a lost connection does."""
    for pid in agent.workers():
        _kill(pid, signal.SIGSTOP)


def go_on_when_asked_to_end(agent: Agent) -> None:
    """Let processes that hang go on once torchrun has sent SIGTERM to all of them."""
    workers = agent.workers()
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and not all(map(_is_asked_to_end, workers)):
        time.sleep(0.02)
    for pid in workers:
        _kill(pid, signal.SIGCONT)


def _is_asked_to_end(pid: int) -> bool:
    """Whether SIGTERM waits for a process that is stopped."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    (pending,) = re.findall(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)
    return bool(int(pending, 16) >> (signal.SIGTERM - 1) & 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def _kill(pid: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, how)


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # `pid (name) state parent ...`; the name may hold blanks and parentheses.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == pid:
                found.append(int(entry.name))
    return sorted(found)


def _descendants(pid: int) -> list[int]:
    return [below for child in _children(pid) for below in (child, *_descendants(child))]
