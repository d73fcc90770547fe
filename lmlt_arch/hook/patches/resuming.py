"""Patches for resuming: one decision of all processes, and the folder of a run that is started again."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import torch

from lmlt_arch.errors import UsageError
from lmlt_arch.files import OutputError
from lmlt_arch.group import failures_of_all, from_first, gathered, is_distributed, is_first_here
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
    *("rank", "root_path", "path", "num_gpu", "dist_params", "auto_resume", "manual_seed"),
    *("use_tb_logger", "wandb"),
    *("dataroot_gt", "dataroot_lq", "meta_info", "meta_info_file", "io_backend", "batch_size_per_gpu"),
    *("num_worker_per_gpu", "prefetch_mode", "num_prefetch_queue", "pin_memory", "persistent_workers"),
}


class Start:
    """How the run of this process began; a process runs one training at a time."""

    ours = False
    """Whether it is a training of one of our models."""
    reason = ""
    """Why it goes on without `--auto_resume`; '' if it does not."""
    run = ""
    """Which run it is: one that begins, or goes on from a state that the options name, is a new one."""
    began = ""
    """The state from which the run went on at first, as `Record` has it."""


@patch_after("basicsr.utils.options", changes=("parse_options",), acts=OURS)
def one_decision_of_all_processes(names: Names) -> None:
    """Each process decides for itself whether to resume, with which options and from which seed.

    A start by torchrun or SLURM that is a restart resumes, as `--auto_resume` does. Processes whose options
    differ end with a message that names them, and so do those that torchrun starts without
    `--launcher pytorch`.
    """

    def decide(opt: dict[str, Any]) -> None:
        Start.reason, Start.run, Start.began = "", "", ""
        Start.ours = bool(opt.get("is_train")) and starts_a_run() and runs_ours(opt)
        if not Start.ours:
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

        latest = _latest_start(opt) if runs_ours(opt) else restarts.Record()
        given, (ancestor, elsewhere) = opt["path"].get("resume_state"), _beginning(opt, latest)
        sets = Checkpoints.of(opt, latest.run, ancestor)
        state, wrong = agreed_set(sets) if opt.get("dist") else sets.to_resume()
        if wrong and opt.get("rank", 0) == 0:
            warnings.warn(f"Checkpoints cannot be used: {wrong}. Going on from {state}.", stacklevel=2)
        Start.run, Start.began = latest.run, latest.began
        # A run without a checkpoint of its own goes on from where it began.
        if elsewhere and (state is None or (latest.run and run_of(state) != latest.run)):
            opt["path"]["resume_state"] = elsewhere
            _refuse_damaged(opt)
        else:
            opt["path"]["resume_state"] = str(state) if state else None
        loaded = stock({**opt, "auto_resume": False})
        if runs_ours(opt):
            _say_what_is_lost(opt, loaded, given=given, known=bool(latest.run))
        return loaded

    names["load_resume_state"] = load_resume_state


@patch_after("basicsr.train", changes=("load_resume_state",), acts=OURS)
def damaged_checkpoints_to_resume_from(names: Names) -> None:
    """A damaged `resume_state`, or one whose networks are damaged, goes on with wrong numbers or a traceback.

    PyTorch does not verify the checksums of the files that it reads.
    """
    stock = names["load_resume_state"]

    @wraps(stock)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        if opt["path"].get("resume_state") and not opt["auto_resume"] and runs_ours(opt):
            _refuse_damaged(opt)
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

    stock_load = names["load_resume_state"]

    @wraps(stock_load)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        loaded = stock_load(opt)
        if not Start.run:
            Start.began = _began(opt["path"])
        return loaded

    @wraps(stock_dirs)
    def make_exp_dirs(opt: dict[str, Any]) -> None:
        if not Start.reason:
            stock_dirs(opt)
        elif opt["rank"] == 0:
            for key in ("experiments_root", "models", "training_states", "log", "visualization"):
                Path(opt["path"][key]).mkdir(parents=True, exist_ok=True)
        if Start.ours and opt["dist"] and not Start.reason:
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
        if Start.ours:
            _record(Path(experiments_root))

    names |= {"load_resume_state": load_resume_state, "make_exp_dirs": make_exp_dirs}
    names |= {"mkdir_and_rename": mkdir_and_rename, "copy_opt_file": copy_opt_file}


def _agree(opt: dict[str, Any], set_random_seed: Any) -> None:
    """Take the decisions of all processes as one; rank 0 says what all of them refuse."""
    own = (Start.reason, opt["auto_resume"], opt["manual_seed"], _compared(opt))
    found = gathered(own)
    reasons, resumes, seeds, options = (list(column) for column in zip(*found, strict=True))
    from lmlt_arch.checkpoints.sets import in_short
    from lmlt_arch.models.agreement import differences

    if wrong := [*differences(options)]:
        text = f"the processes have different options: {in_short(wrong)}. "
        error = UsageError(f"{text}Fix: start all of them with the same option file and arguments")
        end_run(error, says=opt["rank"] == 0)
    Start.reason = next((reason for reason in reasons if reason), "")
    opt["auto_resume"] = any(resumes)
    if opt["manual_seed"] != seeds[0]:  # without one in the file, each process chooses
        opt["manual_seed"] = seeds[0]
        if set_random_seed is not None:
            set_random_seed(seeds[0] + opt["rank"])


def _compared(opt: Mapping[str, Any]) -> dict[str, str]:
    from lmlt_arch.options.total_batch import known_launch, total_batch

    batch, files = total_batch(opt, known_launch(opt)), {}
    for key, value in opt["path"].items():
        if key == "resume_state" or key.startswith("pretrain_network"):
            # Whose folders may differ.
            files[f"path: {key}"] = Path(value).name if value else "none"
    return {**dict(_flat(opt)), **files, "batch in total": str(batch and batch.total)}


def _flat(section: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if key in _LOCAL:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{start}{key}: ")
        else:
            yield f"{start}{key}", str(value)


def _latest_start(opt: Mapping[str, Any]) -> restarts.Record:
    """The last start on the disk of any process; an empty record if there is none."""
    own = restarts.read_record(Path(opt["path"]["training_states"]).parent)
    return max(gathered(own), key=lambda record: record.time)


def _refuse_damaged(opt: Mapping[str, Any]) -> None:
    """Raise an error on all processes if one of them cannot go on from the state in the options."""
    from lmlt_arch.checkpoints.load import CheckpointError
    from lmlt_arch.checkpoints.sets import Checkpoints

    refusals = gathered(Checkpoints.of(opt).refusal(Path(opt["path"]["resume_state"])))
    if refusal := next(filter(None, refusals), ""):
        raise CheckpointError(refusal)


def _began(path: Mapping[str, Any]) -> str:
    """The state to go on from, as `Record.began` has it."""
    given = path.get("resume_state")
    if not given:
        return ""
    state = Path(given).resolve()
    return state.name if state.parent == Path(path["training_states"]).resolve() else str(state)


def _beginning(opt: Mapping[str, Any], latest: restarts.Record) -> tuple[int, str]:
    """Where a run began: after which iteration of its own folder, or -1; from which other state, or ''."""
    number = latest.began.removesuffix(".state")
    if number.isdecimal():
        return int(number), ""
    return -1, str(Path(opt["path"]["training_states"], latest.began)) if latest.began else ""


def _say_what_is_lost(
    opt: Mapping[str, Any], state: Mapping[str, Any] | None, *, given: str | None, known: bool
) -> None:
    """Warn of a start at iteration 0 that was hardly meant, and of nothing to train.

    Args:
        opt: the options, with the path of the state that was found.
        state: what it holds; None if there is none.
        given: the state that the option file names, which BasicSR ignores with `--auto_resume`.
        known: whether the run was started before.

    Raises:
        UsageError: the state does not fit the network or the optimizer.
    """
    from lmlt_arch.options.checks.resuming import misfit

    found, said = opt["path"]["resume_state"], ""
    if state:
        total = (opt.get("train") or {}).get("total_iter")
        if text := misfit(opt, state):
            raise UsageError(f"{found} {text}")
        if isinstance(total, int) and state["iter"] >= total:
            said = f"{found} is of iteration {state['iter']}, and total_iter is {total}: "
            said += "nothing is left to train."
    elif given:
        said = f"There is no checkpoint to resume from, and with --auto_resume, {given} is ignored: "
        said += "training begins at iteration 0."
    elif known:
        said = "This run was started before, and no disk has a checkpoint of it: it begins at iteration 0."
    if said and opt.get("rank", 0) == 0:
        warnings.warn(said, stacklevel=3)


def _leave_older_runs(folder: Path) -> None:
    """Rename the folder of an older run on machines that do not see the one that was just made.

    A network file system may show a folder under the name that it had a while ago. A name that nobody has
    asked for yet is looked up, so a file of a new name beside the folder says who shares a disk.
    """
    rank, run = torch.distributed.get_rank(), _one_run()
    mark = folder.with_name(f".{folder.name}.{run}")

    def take(one: int) -> None:
        if one == rank and not mark.exists():
            if folder.exists() and rank > 0:
                folder.rename(f"{folder}_archived_{time.strftime('%Y%m%d_%H%M%S')}")
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()

    try:
        _on_all_processes(partial(take, 0))
        blind = [one for one, sees in enumerate(gathered(mark.exists() or not is_first_here())) if not sees]
        for one in blind:  # one after the other: two of them may share a disk
            _on_all_processes(partial(take, one))
        torch.distributed.barrier()
    finally:
        with suppress(OSError):
            mark.unlink(missing_ok=True)


def _on_all_processes(act: Callable[[], None]) -> None:
    """Let all processes do something; what fails on one of them is an error on all.

    Raises:
        OutputError: something could not be written.
    """
    failure = ""
    try:
        act()
    except (OSError, OutputError) as error:
        failure = str(error)
    if failures := failures_of_all(failure):
        from lmlt_arch.checkpoints.sets import in_short

        raise OutputError(f"the folder of the run cannot be written: {in_short(failures)}")


def _record(folder: Path) -> None:
    """Record this start in the run's folder, on every disk."""
    run, agents = _one_run(), gathered(restarts.agent_of(os.environ))

    def write() -> None:
        if is_first_here() or not is_distributed():
            folder.mkdir(parents=True, exist_ok=True)
            restarts.write_record(folder, run, agents, os.environ, Start.began)

    _on_all_processes(write)


def _one_run() -> str:
    """The name of the run, the same on all processes."""
    Start.run = from_first(Start.run or restarts.new_run())
    return Start.run
