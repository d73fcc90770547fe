"""Errors that a sentence explains: the command line and the launchers print it and no traceback.

Exit statuses are the same in every command: 0 done, 1 failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import errno


class LmltError(Exception):
    """An error that explains itself: one sentence that names the thing and the fix.

    Attributes:
        exit_status: of a command that ends with it.
    """

    exit_status = 1


class UsageError(LmltError, ValueError):
    """A request that makes no sense; the message says what to give instead, and nothing was written."""

    exit_status = 2


class DataError(LmltError):
    """Images or results that cannot be used for what was asked; the message names them."""


_FIXES = {
    errno.EMFILE: "raise the limit (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EAGAIN: "raise the limits of processes and memory (ulimit -u, ulimit -v)",  # of a thread
    errno.ENOMEM: "close other programs, or give it less at once",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EFBIG: "raise the limit (ulimit -f), or make room on the disk",
}
_MEMORY = (
    "can't start new thread",
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "could not create a primitive",  # oneDNN
)


def shortage(error: BaseException) -> str | None:
    """The sentence for an error caused by a lack of memory, disk space or open files; None for any other."""
    if isinstance(error, OSError) and error.errno in _FIXES:
        return f"{error}: {_FIXES[error.errno]}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _MEMORY):
        return f"not enough memory ({text:.200}): {_FIXES[errno.ENOMEM]}"
    return None
