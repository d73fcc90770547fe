"""Training runs of experiments: BasicSR by torchrun, each run with an option file of its own."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from lmlt_arch.errors import DataError, UsageError
from lmlt_arch.files import make_folder, write_atomic
from lmlt_arch.hook import finder

Options = dict[str, Any]

# Of a run that is not --full.
ITERATIONS, BATCH, PATCH = 300, 4, 32
# So that an averaged network has forgotten its random start at the end.
_AVERAGED_SHARE = 0.05
_CHECKPOINTS_PER_RUN = 4


@dataclass(frozen=True)
class Schedule:
    """How long and on how much networks are trained.

    Attributes:
        photographs: folder of HR images; LR are made by bicubic shrinking.
        iterations: steps; None for what the option file says.
        batch: images of a step; None for what the option file says.
        patch: side of a training patch in LR pixels; None for what the option file says.
    """

    photographs: Path
    iterations: int | None
    batch: int | None
    patch: int | None


@dataclass(frozen=True)
class Trainer:
    """Runs trainings one after the other.

    Attributes:
        launcher: `basicsr/train.py` of the checkout.
        folder: of the runs: option files, logs, and BasicSR's `experiments/`.
        processes: of torchrun, for one run.
        device: CPU, or anything else for all the GPUs there are.
    """

    launcher: Path
    folder: Path
    processes: int
    device: torch.device

    def train(self, options: Options) -> Path:
        """The checkpoint at the end of a run: made now, or before; an interrupted run goes on.

        Args:
            options: of BasicSR. The run is known by its name and by all the options together: other options
                are another run.

        Raises:
            DataError: the training failed.
            OutputError: a file that cannot be written.
        """
        name = _run_name(options)
        make_folder(self.folder)
        final = self.folder / "experiments" / name / "models" / "net_g_latest.pth"
        ended = self.folder / f"{name}.ended"
        if ended.exists() and final.exists():
            return final
        file, log = self.folder / f"{name}.yml", self.folder / f"{name}.log"
        # YAML reads JSON.
        write_atomic(file, json.dumps({**options, "name": name}, indent=1).encode())
        status = self._run(file, log)
        if status or not final.exists():
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            errors = [line for line in lines if "rror" in line and "ChildFailedError" not in line]
            said = (errors or lines or ["nothing"])[-1].strip()
            raise DataError(f"the training {name} failed (exit status {status}), see {log}: {said}")
        write_atomic(ended, b"")
        return final

    def _run(self, file: Path, log: Path) -> int:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={self.processes}", str(self.launcher.resolve())]
        command += ["-opt", str(file.resolve()), "--auto_resume"]
        if self.processes > 1:
            command += ["--launcher", "pytorch"]
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.device.type == "cpu" else {}
        root = str(Path(__file__).resolve().parents[3])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with log.open("ab") as output, _sigterm_as_exit():
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **hidden, "PYTHONPATH": path},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                return process.wait()
            finally:
                # Interrupted: the training saves where it is, and two of one run never run at once.
                process.terminate()
                process.wait()


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Within, SIGTERM unwinds the stack, as Ctrl-C does."""

    def leave(signum: int, frame: FrameType | None) -> None:
        sys.exit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def add_training_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """The arguments of programs that train, for `schedule_of` and `trainer_of`.

    Args:
        parser: of the program.
        name: of the experiment.
    """
    add = parser.add_argument
    add("--train", type=Path, required=True, metavar="FOLDER", help="photographs to train on")
    add("--data", type=Path, required=True, nargs="+", metavar="FOLDER", help="datasets to measure PSNR on")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="one run for each (default: 0 1)")
    add("--iterations", type=int, default=ITERATIONS, help="steps of a run (default: %(default)s)")
    add("--batch", type=int, default=BATCH, help="images of a step (default: %(default)s)")
    add("--patch", type=int, default=PATCH, help="side of a patch in LR pixels (default: %(default)s)")
    add("--full", action="store_true", help="iterations, batch and patch as in the option file")
    add("--processes", type=int, default=1, metavar="N", help="of torchrun: one for each GPU (default: 1)")
    runs = Path("results") / f"{name}_runs"
    add(
        "--runs", type=Path, default=runs, help="folder of the runs, which go on there (default: %(default)s)"
    )


def schedule_of(args: argparse.Namespace) -> Schedule:
    """The schedule that the arguments ask for.

    Raises:
        UsageError: a number below 1, a seed twice, or no such folder.
    """
    if min(args.iterations, args.batch, args.patch, args.processes) < 1:
        raise UsageError("--iterations, --batch, --patch and --processes must be above 0")
    if len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        raise UsageError("--seeds must be distinct and not negative")
    if not args.train.is_dir():
        raise UsageError(f"--train {args.train}: no such folder")
    given = (None, None, None) if args.full else (args.iterations, args.batch, args.patch)
    return Schedule(args.train, *given)


def trainer_of(args: argparse.Namespace, launcher: Path) -> Trainer:
    """The trainer that was asked for."""
    return Trainer(launcher, args.runs, args.processes, args.device)


def as_json(schedule: Schedule) -> Options:
    """The schedule for an experiment's result; without where the photographs lie."""
    return {**vars(schedule), "photographs": schedule.photographs.name}


def spread_of(values: Sequence[float]) -> Options:
    """Mean and standard deviation of runs that differ in their seed; no deviation of a single one."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"runs": list(values), "mean": float(np.mean(values)), "std": deviation}


def plus_minus(spread: Mapping[str, Any], digits: int, *, sign: str = "") -> str:
    """The text of a `spread_of` in tables."""
    deviation = "" if spread["std"] is None else f" ± {spread['std']:.{digits}f}"
    return f"{spread['mean']:{sign}.{digits}f}{deviation}"


def read_base(path: Path) -> Options:
    """The option file that runs start from.

    Raises:
        UsageError: it cannot be read, or lacks what a training needs.
    """
    from lmlt_arch.options import OptionError, load_option_file

    try:
        options = load_option_file(path)
    except OptionError as error:
        raise UsageError(str(error)) from error
    for section in ("network_g", "train", "datasets", "scale"):
        if section not in options:
            raise UsageError(f"{path} has no {section}: give an option file to train with")
    return options


def with_network(base: Mapping[str, Any], *changes: Mapping[str, Any]) -> Options:
    """The options with another network: changes of `network_g`, later ones win; None takes a key away.

    Raises:
        UsageError: such a network cannot be built.
    """
    network = dict(base["network_g"])
    for change in changes:
        network |= change
    network = {key: value for key, value in network.items() if value is not None}
    options = {**copy.deepcopy(dict(base)), "network_g": network}
    build(options)
    return options


def build(options: Options) -> torch.nn.Module:
    """The network of the options, without memory for its weights.

    Raises:
        UsageError: it cannot be built.
    """
    finder.install()
    from lmlt_arch.options.checks.parts import build_on_meta

    try:
        network: torch.nn.Module = build_on_meta(options, "network_g")
    except Exception as error:
        # Constructors of any registered network.
        raise UsageError(f"network_g {options['network_g']}: {error}") from error
    return network


def run_options(
    base: Options, schedule: Schedule, *, name: str, seed: int, meta_info: Path | None = None
) -> Options:
    """The options of one run: runs of one seed differ in the name and the network alone.

    Initial weights follow the seed, and so do order, crops and turns of the training images, whatever the
    network is.

    Args:
        base: of the option file.
        schedule: what all runs have in common.
        name: of the run.
        seed: of everything random.
        meta_info: file that lists which of the photographs to take; None for all.
    """
    options = copy.deepcopy(base)
    scale, train = int(options["scale"]), options["train"]
    data = {
        "name": schedule.photographs.name,
        "type": "DownsampleImageDataset",
        "dataroot_gt": str(schedule.photographs.resolve()),
        "io_backend": {"type": "disk"},
        "use_hflip": True,
        "use_rot": True,
        "dataset_enlarge_ratio": 100,
        "prefetch_mode": None,
        **{
            key: options["datasets"]["train"][key]
            for key in ("gt_size", "num_worker_per_gpu", "batch_size_per_gpu")
            if key in options["datasets"]["train"]
        },
    }
    logger: Options = {"print_freq": 100, "save_checkpoint_freq": 5000, "use_tb_logger": False}
    if schedule.patch is not None:
        data["gt_size"] = scale * schedule.patch
    if schedule.batch is not None:
        data |= {"batch_size_per_gpu": schedule.batch, "num_worker_per_gpu": 1}
    if schedule.iterations is not None:
        _shorten(train, schedule.iterations)
        often = max(1, schedule.iterations // _CHECKPOINTS_PER_RUN)
        logger |= {"print_freq": often, "save_checkpoint_freq": often}
    if meta_info is not None:
        data["meta_info_file"] = str(meta_info.resolve())
    # Networks of different shapes cannot start from one checkpoint.
    path = {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None}
    options |= {"name": name, "manual_seed": seed, "num_gpu": "auto", "path": path, "logger": logger}
    options["datasets"] = {"train": data}
    options.pop("val", None)
    return options


def _shorten(train: Options, iterations: int) -> None:
    """The same schedule in fewer iterations."""
    share = iterations / int(float(train["total_iter"]))
    train["total_iter"] = iterations
    for key in ("periods", "milestones"):
        if key in train["scheduler"]:
            steps = [max(1, round(share * float(step))) for step in train["scheduler"][key]]
            train["scheduler"][key] = steps
    if train.get("warmup_iter", -1) > 0:
        train["warmup_iter"] = round(share * train["warmup_iter"]) or -1
    if train.get("ema_decay"):
        longest = 1 - 1 / max(2, _AVERAGED_SHARE * iterations)
        train["ema_decay"] = min(train["ema_decay"], longest)


def _run_name(options: Options) -> str:
    """Letters that any file system takes, and a mark of all the options."""
    content = json.dumps({**options, "name": ""}, sort_keys=True)
    mark = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^0-9A-Za-z_-]+', '_', str(options['name']))}_{mark}"
