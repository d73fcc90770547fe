"""The processes that train together."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from signal import Signals
from typing import Any

ENDING = tuple(Signals[name] for name in ("SIGTERM", "SIGUSR1") if name in Signals.__members__)
"""Signals that ask a run to save and leave: SLURM sends the second as a warning, and Windows lacks it."""


def is_distributed() -> bool:
    """Whether this process has joined others."""
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def gathered(own: Any) -> list[Any]:
    """The values of all processes, by rank; all of them call this. Of a process alone, its own.

    Args:
        own: what can be pickled.

    Raises:
        RuntimeError: another process has ended, or the timeout of the process group is over.
    """
    import torch.distributed

    if not is_distributed():
        return [own]

    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return found


def from_first(own: Any) -> Any:
    """The value of rank 0 on all processes; all of them call this.

    Args:
        own: what can be pickled.

    Raises:
        RuntimeError: another process has ended, or the timeout of the process group is over.
    """
    import torch.distributed

    values = [own]
    if is_distributed():
        torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def failures_of_all(own: str) -> list[str]:
    """What failed on any of the processes, each with its number if there are several; all of them call this.

    Args:
        own: what failed on this one; '' if nothing did.
    """
    found = gathered(own)
    several = len(found) > 1
    return [f"process {rank}: {text}" if several else text for rank, text in enumerate(found) if text]


def is_first_here() -> bool:
    """Whether this process has local rank 0: the one that writes what the processes of its machine share."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


@contextmanager
def ending_held_back() -> Iterator[None]:
    """Block the signals of `ENDING` in processes that start meanwhile, until each calls `accept_ending`.

    A signal to all processes of a job would end one that has not yet said what it does then. This process
    gets its own when that is over.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        # Started by the first spawned process, after which it would take back SIGTERM for all that follow.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def accept_ending() -> None:
    """Take the signals of `ENDING` again, in a process that started while they were held back."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
