"""Errors that a sentence explains: the command line and the launchers print it and no traceback."""

from __future__ import annotations

import errno
from typing import NamedTuple

EXIT_STATUS = """\
Exit status: 0 done, 1 failed (the content of a file, a file that cannot be written, memory, disk space),
2 usage (an unusable argument or option file, a missing input or package), 130 interrupted.
"""

FAILED, USAGE = 1, 2


class LmltError(Exception):
    """An error that explains itself: one sentence that names the thing and the fix.

    Attributes:
        exit_status: of a command that ends with it.
        several_lines: whether the message lists several mistakes, one a line.
    """

    exit_status = FAILED
    several_lines = False


class UsageError(LmltError, ValueError):
    """An unusable request; the message names the fix, and nothing was written."""

    exit_status = USAGE


class MissingFileError(UsageError, FileNotFoundError):
    """An input that does not exist."""


class MissingPackageError(UsageError, ImportError):
    """An extra of this package that is not installed; the message has the command that installs it."""


class DataError(LmltError):
    """Images or results that cannot be used for what was asked; the message names them."""


class Explanation(NamedTuple):
    """What a program prints and returns for an error.

    Attributes:
        sentence: what is wrong, and the fix.
        exit_status: of the program.
    """

    sentence: str
    exit_status: int


# Packages that training, option files and degradations need beyond the core.
_OF_TRAIN = ("basicsr", "pydantic", "scipy", "yaml")
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


def pip_install(extra: str) -> str:
    """The command that installs an extra of this package, as every message and help text writes it.

    Double quotes, which the shells of all systems take.
    """
    return f'pip install "basicsr-lmlt[{extra}]"'


def shortage(error: BaseException) -> str | None:
    """The sentence for an error caused by a lack of memory, disk space or open files; None for any other."""
    if isinstance(error, OSError) and error.errno in _FIXES:
        return f"{error}: {_FIXES[error.errno]}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _MEMORY):
        return f"not enough memory ({text:.200}): {_FIXES[errno.ENOMEM]}"
    return None


def explain(error: BaseException) -> Explanation | None:
    """The sentence and the exit status for an error that needs no traceback.

    Args:
        error: any error that has reached a program's outermost function.

    Returns:
        None for a programming error, whose traceback is needed.
    """
    if isinstance(error, LmltError):
        return Explanation(str(error), error.exit_status)
    if isinstance(error, ModuleNotFoundError) and error.name in _OF_TRAIN:
        return Explanation(f"needs {error.name}: {pip_install('train')}", USAGE)
    if isinstance(error, (MemoryError, OSError, RuntimeError)) and (lacking := shortage(error)) is not None:
        return Explanation(lacking, FAILED)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        # Of an input: one that cannot be written is an OutputError.
        return Explanation(str(error), USAGE)
    if isinstance(error, (OSError, FloatingPointError)):
        return Explanation(str(error), FAILED)
    return None
