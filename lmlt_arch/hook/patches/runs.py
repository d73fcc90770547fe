"""Patches against two runs of one name, which would destroy each other's files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from lmlt_arch.files import TEMPORARY_SUFFIX, OutputError, exclusive, lock_beside, sweep
from lmlt_arch.group import from_first, is_distributed, is_first_here
from lmlt_arch.hook.ending import end_run
from lmlt_arch.hook.patches.resuming import Start
from lmlt_arch.hook.patching import OURS, Names, after_parsing, patch_after, starts_a_run
from lmlt_arch.names import runs_ours

PATIENCE_S = 120
"""How long a run with `--auto_resume` waits for one on another machine: a requeued job's may be dead."""

_ROOTS = ("experiments_root", "results_root")
# A process runs one pipeline at a time.
_running = ExitStack()


@patch_after("basicsr.utils.options", changes=("parse_options",), acts=OURS)
def one_run_per_name(names: Names) -> None:
    """Two runs of one name destroy each other: the second renames the folder of the first, and both go on.

    The first process of a run holds a lock beside its folder, which ends with the process, however it ends.
    """

    def hold(opt: dict[str, Any]) -> None:
        if starts_a_run() and runs_ours(opt):
            refusal = from_first(_refusal(opt) if opt.get("rank", 0) == 0 else "")
            if refusal:
                end_run(OutputError(refusal), says=opt.get("rank", 0) == 0)
            folder = _folder(opt)
            if folder and is_first_here():  # each machine may have a disk of its own
                with suppress(OSError):  # or share the first one's, which may rename the folder now
                    sweep(folder.rglob(f".*{TEMPORARY_SUFFIX}"))

    after_parsing(names, hold)


@patch_after("basicsr.train", changes=("train_pipeline",), acts=OURS)
def name_of_a_training_that_ended(names: Names) -> None:
    """A process that continues after a training, as a notebook does, would keep the run's name locked."""
    names["train_pipeline"] = _released(names["train_pipeline"])


@patch_after("basicsr.train", changes=("train_pipeline",), acts=OURS)
def processes_that_end_together(names: Names) -> None:
    """Processes leave while the first one still writes: torchrun may end it, and gloo may abort."""
    stock = names["train_pipeline"]

    @wraps(stock)
    def train_pipeline(*args: Any, **kwargs: Any) -> Any:
        done = stock(*args, **kwargs)
        if Start.ours and is_distributed():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        return done

    names["train_pipeline"] = train_pipeline


@patch_after("basicsr.test", changes=("test_pipeline",), acts=OURS)
def name_of_a_test_that_ended(names: Names) -> None:
    """A process that continues after a test, as a notebook does, would keep the run's name locked."""
    names["test_pipeline"] = _released(names["test_pipeline"])


def _refusal(opt: dict[str, Any]) -> str:
    """Lock the name of a run; returns why that is impossible, or ''."""
    _running.close()
    folder = _folder(opt)
    if folder is None:
        return ""
    work = f"{'training' if opt.get('is_train') else 'test'} of {folder}"
    remedy = "wait until it has ended, end it, or give this run another name"
    patience_s = PATIENCE_S if opt.get("auto_resume") else 0
    try:
        _running.enter_context(exclusive(lock_beside(folder), work, remedy, patience_s=patience_s))
    except OutputError as error:
        return str(error)
    return ""


def _folder(opt: dict[str, Any]) -> Path | None:
    path = opt.get("path") or {}
    return next((Path(path[key]) for key in _ROOTS if path.get(key)), None)


def _released(pipeline: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(pipeline)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return pipeline(*args, **kwargs)
        finally:
            _running.close()

    return run
