"""A folder that takes the place of another, so that a whole one has the name at every moment."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

# Of `renameat2` in the C library of Linux: paths seen from the working directory; two names are exchanged.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def take_place(new: Path, folder: Path) -> None:
    """Give a finished folder its name; one that had it goes away.

    Where the system cannot exchange two names at once, the older one is put aside first: a process that is
    killed there leaves it for `put_back`.

    Args:
        new: the finished folder; beside the other.
        folder: its name.

    Raises:
        OSError: that is not possible.
    """
    if not folder.exists():
        new.rename(folder)
    elif _exchanged(new, folder):
        shutil.rmtree(new)
    else:
        aside = _aside(folder)
        folder.rename(aside)
        new.rename(folder)
        shutil.rmtree(aside)


def put_back(folder: Path) -> None:
    """Give a folder back its name if a killed process took it away and did not come to the new one.

    Raises:
        OSError: that is not possible.
    """
    aside = _aside(folder)
    if not aside.exists():
        return
    if folder.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(folder)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names at once; returns whether that was possible."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    status: int = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return status == 0
