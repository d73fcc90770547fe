"""Replacing a folder by another one, so that a complete one has the name at every moment."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

# Of `renameat2` in the C library of Linux: paths relative to the working directory; exchange of two names.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def take_place(new: Path, folder: Path) -> None:
    """Give a finished folder its name, and remove the one that had it.

    Where the system cannot exchange two names at once, the older folder is renamed first: a process that is
    killed then leaves it for `put_back`.

    Args:
        new: the finished folder, in the same parent folder.
        folder: its name.

    Raises:
        OSError: renaming or removing fails.
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
    """Give a folder back the name that a killed process took from it.

    Raises:
        OSError: renaming or removing fails.
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
