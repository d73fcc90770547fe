"""Locks of files that end with their process, also if it is killed.

They are `flock`s of the system: a killed process frees them at once, on a network file system once its server
has noticed. On Windows, and on file systems without locks, nothing is held.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from lmlt_arch.errors import LmltError

_held: set[int] = set()


class LockedError(LmltError):
    """Another process holds the lock."""


class Lock:
    """A locked file, which is made if it is missing.

    Args:
        path: the file.
        wait: wait until it is free.

    Attributes:
        supported: whether the file system has locks; if not, nothing is held.

    Raises:
        LockedError: another process holds it.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self.path = path
        self.supported, self._file = _take(path, wait=wait)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """Whether this process still holds the lock; a fork of its holder does not."""
        return self._file in _held

    def note(self, text: str) -> None:
        """Write the holder into the file; on a full disk, it stays empty."""
        if self.supported:
            with suppress(OSError):
                os.ftruncate(self._file, 0)
                os.write(self._file, text.encode())

    def release(self, *, remove: bool = False) -> None:
        """Free the lock.

        Args:
            remove: delete the file, which only the holder may do: others check that theirs still exists.
        """
        if not self.held:
            return
        if remove:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        _drop(self._file)


def _take(path: Path, *, wait: bool) -> tuple[bool, int]:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if sys.platform == "win32":
            os.close(file)
            return False, -1
        _held.add(file)
        try:
            supported = _flock(file, wait=wait)
            if _is_at(path, file):
                return supported, file
        except BaseException:
            _drop(file)
            raise
        _drop(file)  # whoever held it deleted it


def _flock(file: int, *, wait: bool) -> bool:
    """Lock an open file; returns whether its file system has locks."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError from error
    except OSError:
        return False
    return True


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _drop(file: int) -> None:
    _held.discard(file)
    os.close(file)


def _drop_in_child() -> None:
    """Close inherited locks: a forked data worker would keep the lock of a killed parent."""
    for file in [*_held]:
        _drop(file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_in_child)
