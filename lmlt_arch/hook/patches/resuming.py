"""Patches for resuming: one decision of all processes, and the folder of a run that is started again."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from functools import wraps
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import torch

from lmlt_arch.errors import UsageError
from lmlt_arch.group import gathered, is_first_here
from lmlt_arch.hook import restarts
from lmlt_arch.hook.ending import end_run
from lmlt_arch.hook.patching import (
    ON_REQUEST,
    OURS,
    Names,
    after_parsing,
    patch_after,
    starts_a_run,
    uses,
    wanted,
)
from lmlt_arch.names import runs_ours

# Keys that may differ from machine to machine; the batch in total is compared instead of its shares.
_LOCAL = {
    *("rank", "root_path", "path", "num_gpu", "dist_params", "auto_resume", "manual_seed", "logger"),
    *("dataroot_gt", "dataroot_lq", "meta_info", "meta_info_file", "io_backend", "batch_size_per_gpu"),
    *("num_worker_per_gpu", "prefetch_mode", "num_prefetch_queue", "pin_memory", "persistent_workers"),
}
_NAMED = 3


class Start:
    """How the run of this process began; a process runs one training at a time."""

    reason = ""
    """Why it goes on without `--auto_resume`; '' if it does not."""
    run = ""
    """Which run it is: one that begins, or goes on from a state that the options name, is a new one."""


@patch_after("basicsr.utils.options", changes=("parse_options",), acts=OURS)
def one_decision_of_all_processes(names: Names) -> None:
    """Each process decides for itself whether to resume, with which options and from which seed.

    A start by torchrun or SLURM that is a restart resumes, as `--auto_resume` does. Processes whose options
    differ end with a message that names them, and so do those that torchrun starts without
    `--launcher pytorch`.
    """

    def decide(opt: dict[str, Any]) -> None:
        Start.reason, Start.run = "", ""
        if not (opt.get("is_train") and starts_a_run() and runs_ours(opt)):
            return
        world = os.environ.get("WORLD_SIZE", "1")
        if not opt.get("dist") and world != "1" and restarts.agent_of(os.environ):
            text = f"torchrun has started {world} processes, each of which would train for itself"
            says = os.environ.get("RANK", "0") == "0"
            end_run(UsageError(f"{text}: add --launcher pytorch"), says=says)
        Start.reason = restarts.restart_reason(Path(opt["path"]["experiments_root"]), os.environ)
        if opt.get("dist"):
            _agree(opt, names.get("set_random_seed"))
        if Start.reason and not opt["auto_resume"]:
            if opt["rank"] == 0:
                warnings.warn(f"{Start.reason}: going on as with --auto_resume.", stacklevel=3)
            opt["auto_resume"] = True

    after_parsing(names, decide)


@patch_after(
    "basicsr.train",
    changes=("load_resume_state",),
    needed=lambda names: not torch.cuda.is_available() and uses(names["load_resume_state"], "current_device"),
)
def resume_without_gpu(names: Names) -> None:
    """Resuming maps the state to the current CUDA device and dies without one."""
    stock = names["load_resume_state"]

    @wraps(stock)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        on_cpu = {**stock.__globals__, "torch": _TorchOnCpu()}
        load = FunctionType(stock.__code__, on_cpu, argdefs=stock.__defaults__, closure=stock.__closure__)
        return load(opt)

    names["load_resume_state"] = load_resume_state


class _TorchOnCpu:
    """PyTorch for a function that expects a GPU."""

    cuda = SimpleNamespace(**{**vars(torch.cuda), "current_device": lambda: 0})

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def load(self, path: Any, *args: object, **kwargs: object) -> Any:
        return torch.load(path, map_location="cpu")


@patch_after(
    "basicsr.train",
    changes=("load_resume_state",),
    needed=lambda names: uses(names["load_resume_state"], "experiments"),
    acts=ON_REQUEST,
)
def auto_resume_where_runs_are_written(names: Names) -> None:
    """`--auto_resume` looks below the working directory, while runs are written below the package's root.

    It then starts over in silence and renames the old run. Here it takes the newest checkpoint that is
    complete and undamaged on the disk of any process, copies it to the disks that lack it, and warns of newer
    ones.
    """
    stock = names["load_resume_state"]

    @wraps(stock)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        if not opt["auto_resume"] or not wanted("auto-resume-where-runs-are-written", opt):
            return stock(opt)
        from lmlt_arch.checkpoints.agreed_set import agreed_set
        from lmlt_arch.checkpoints.sets import Checkpoints, run_of

        run = _latest_run(opt) if runs_ours(opt) else ""
        sets = Checkpoints.of(opt, run)
        state, wrong = agreed_set(sets) if opt.get("dist") else sets.to_resume()
        if wrong and opt.get("rank", 0) == 0:
            warnings.warn(f"Checkpoints cannot be used: {wrong}. Going on from {state}.", stacklevel=2)
        Start.run = run
        given = opt["path"].get("resume_state")
        # A run without a checkpoint of its own goes on from where it began.
        if not (run and given and (state is None or run_of(state) != run)):
            opt["path"]["resume_state"] = str(state) if state else None
        return stock({**opt, "auto_resume": False})

    names["load_resume_state"] = load_resume_state


@patch_after("basicsr.train", changes=("load_resume_state",), acts=OURS)
def damaged_checkpoints_to_resume_from(names: Names) -> None:
    """A damaged `resume_state`, or one whose networks are damaged, goes on with wrong numbers or a traceback.

    PyTorch does not verify the checksums of the files that it reads.
    """
    stock = names["load_resume_state"]

    @wraps(stock)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        given = opt["path"].get("resume_state")
        if given and not opt["auto_resume"] and runs_ours(opt):
            from lmlt_arch.checkpoints.load import CheckpointError
            from lmlt_arch.checkpoints.sets import Checkpoints

            refusal = Checkpoints.of(opt).refusal(Path(given))
            if refusal:
                raise CheckpointError(refusal)
        return stock(opt)

    names["load_resume_state"] = load_resume_state


@patch_after(
    "basicsr.train",
    changes=("load_resume_state", "make_exp_dirs", "mkdir_and_rename", "copy_opt_file"),
    acts=OURS,
)
def folders_of_a_run(names: Names) -> None:
    """A restarted run has the folder that it is in renamed, and machines keep folders of older runs.

    What such a folder of another machine holds would be resumed from after a failure. Each start is recorded
    in the folder: which run it is, and who started it.
    """
    stock_dirs, stock_rename = names["make_exp_dirs"], names["mkdir_and_rename"]
    stock_copy = names["copy_opt_file"]

    recorded: list[dict[str, Any]] = []
    stock_load = names["load_resume_state"]

    @wraps(stock_load)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        recorded[:] = [opt] if runs_ours(opt) else []
        return stock_load(opt)

    @wraps(stock_dirs)
    def make_exp_dirs(opt: dict[str, Any]) -> None:
        if not runs_ours(opt):
            stock_dirs(opt)
            return
        if not Start.reason:
            stock_dirs(opt)
        elif opt["rank"] == 0:
            for key in ("experiments_root", "models", "training_states", "log", "visualization"):
                Path(opt["path"][key]).mkdir(parents=True, exist_ok=True)
        if opt["dist"] and not Start.reason:
            _leave_older_runs(Path(opt["path"]["experiments_root"]))

    @wraps(stock_rename)
    def mkdir_and_rename(path: str) -> None:
        if Start.reason:
            Path(path).mkdir(parents=True, exist_ok=True)
        else:
            stock_rename(path)

    @wraps(stock_copy)
    def copy_opt_file(opt_file: str, experiments_root: str) -> None:
        stock_copy(opt_file, experiments_root)
        if recorded:
            _record(Path(experiments_root))

    names |= {"load_resume_state": load_resume_state, "make_exp_dirs": make_exp_dirs}
    names |= {"mkdir_and_rename": mkdir_and_rename, "copy_opt_file": copy_opt_file}


def _agree(opt: dict[str, Any], set_random_seed: Any) -> None:
    """Take the decisions of all processes as one; rank 0 says what all of them refuse."""
    own = (Start.reason, opt["auto_resume"], opt["manual_seed"], _compared(opt))
    found = gathered(own)
    reasons, resumes, seeds, options = (list(column) for column in zip(*found, strict=True))
    from lmlt_arch.models.agreement import differences

    if wrong := [*differences(options)]:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        text = f"the processes have different options: {'; '.join(wrong[:_NAMED])}{more}. "
        error = UsageError(f"{text}Fix: start all of them with the same option file and arguments")
        end_run(error, says=opt["rank"] == 0)
    Start.reason = next((reason for reason in reasons if reason), "")
    opt["auto_resume"] = any(resumes)
    if opt["manual_seed"] != seeds[0]:  # without one in the file, each process chooses
        opt["manual_seed"] = seeds[0]
        if set_random_seed is not None:
            set_random_seed(seeds[0] + opt["rank"])


def _compared(opt: Mapping[str, Any]) -> dict[str, str]:
    from lmlt_arch.options.total_batch import total_batch

    batch = total_batch(opt, launched=True, processes=opt["world_size"])
    return {**dict(_flat(opt)), "batch in total": str(batch and batch.total)}


def _flat(section: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if key in _LOCAL:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{start}{key}: ")
        else:
            yield f"{start}{key}", str(value)


def _latest_run(opt: Mapping[str, Any]) -> str:
    """The run that was started last on the disk of any process; '' if there is no record."""
    own = restarts.read_record(Path(opt["path"]["training_states"]).parent)
    records = gathered(own) if opt.get("dist") else [own]
    return max(records, key=lambda record: record.time).run


def _leave_older_runs(folder: Path) -> None:
    """Rename the folder of an older run on machines that do not see the one that was just made."""
    rank, run = torch.distributed.get_rank(), _one_run()
    agents = gathered(restarts.agent_of(os.environ))
    if rank == 0:
        restarts.write_record(folder, run, agents, os.environ)
    torch.distributed.barrier()
    sees = restarts.read_record(folder).run == run
    blind = [one for one, has in enumerate(gathered(sees or not is_first_here())) if not has]
    for one in blind:  # one after the other: two of them may share a disk
        if one == rank and restarts.read_record(folder).run != run:
            if folder.exists():
                folder.rename(f"{folder}_archived_{time.strftime('%Y%m%d_%H%M%S')}")
            folder.mkdir(parents=True)
            restarts.write_record(folder, run, agents, os.environ)
        torch.distributed.barrier()


def _record(folder: Path) -> None:
    """Record this start in the run's folder, on every disk."""
    own = restarts.agent_of(os.environ)
    run, distributed = _one_run(), _is_distributed()
    agents = gathered(own) if distributed else [own]
    if is_first_here() or not distributed:
        folder.mkdir(parents=True, exist_ok=True)
        restarts.write_record(folder, run, agents, os.environ)


def _one_run() -> str:
    """The name of the run, the same on all processes."""
    names = [Start.run or restarts.new_run()]
    if _is_distributed():
        torch.distributed.broadcast_object_list(names, src=0)
    Start.run = names[0]
    return Start.run


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
