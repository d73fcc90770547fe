"""Atomic writing of files, temporary neighbors, and locks for work that one process may do at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lmlt_arch.errors import LmltError
from lmlt_arch.locks import Lock, LockedError

TEMPORARY_SUFFIX = ".tmp"

# Bytes of a name: most file systems take 255, and those that encrypt names 143.
_LONG = 100
_TEMPORARY = re.compile(rf"\..+\.(\d+){re.escape(TEMPORARY_SUFFIX)}(\.\w+)?", re.DOTALL)
_RETRY_S = 1.0
_MOST_COMPRESSED = 4
_swept: set[Path] = set()
# The file in a folder of `scratch` that its process locks.
_HELD = "held"
_ARCHIVE = b"PK\x03\x04"


class OutputError(LmltError):
    """The work cannot go on: the disk is full, a folder is not writable, and the like."""


def write_atomic(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file through a temporary neighbor, so that no reader sees half of it.

    Args:
        path: the file.
        data: all of its content.
        durable: wait until the content is on the disk before the name appears, so that a power cut leaves
            either the old file or the new one. Slow for many small files.

    Raises:
        OutputError: the disk is full, the folder is not writable, and so on; it names the file.
    """
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def writing(path: Path, *, suffix: str = TEMPORARY_SUFFIX) -> Iterator[Path]:
    """A temporary neighbor that is renamed to a file if the block succeeds, and removed if not.

    Args:
        path: the file.
        suffix: suffix of the neighbor, for writers and readers that choose a format by it.

    Yields:
        The neighbor: an empty file, so that a folder that is not writable fails before the work.

    Raises:
        OutputError: the disk is full, the folder is not writable, and so on; it names the file.
    """
    temporary = path.with_name(f".{shortened(path.name)}.{os.getpid()}{suffix}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _sweep_once(path.parent)
        # Locked, so that other processes do not take it for one of a killed process.
        with Lock(temporary, wait=True):
            try:
                yield temporary
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise output_error(path, error) from error


def shortened(name: str) -> str:
    """A name with room for additions: a long one is cut, and has a checksum."""
    if len(os.fsencode(name)) <= _LONG:
        return name
    return f"{name[: _LONG // 4]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A temporary folder beside a file, removed at the end.

    Raises:
        OSError: it cannot be made.
    """
    folder = path.with_name(f".{shortened(path.name)}.{os.getpid()}{TEMPORARY_SUFFIX}.d")
    _sweep_once(path.parent)
    folder.mkdir()
    try:
        with Lock(folder / _HELD):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep_once(folder: Path) -> None:
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder.glob(f".*{TEMPORARY_SUFFIX}*"))


def sweep(paths: Iterable[Path]) -> None:
    """Remove those of the paths that are temporary neighbors of killed processes.

    `writing` and `scratch` call it when a process writes its first file into a folder. A neighbor that might
    belong to a living process stays: it is locked, its number is that of a process here, or the file system
    has no locks.
    """
    for path in paths:
        named = _TEMPORARY.fullmatch(path.name)
        held = path / _HELD if path.is_dir() else path
        if named is None or not held.is_file() or _is_alive(int(named[1])):
            continue
        with suppress(OSError, LockedError), Lock(held) as lock:
            if lock.supported and held == path:
                path.unlink()
            elif lock.supported:
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    """Whether the number is that of another process on this machine."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # of another user
    return True


def lock_beside(folder: Path) -> Path:
    """The lock file of a folder; outside of it, since the folder may be renamed or replaced."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def exclusive(path: Path, work: str, fix: str, *, patience_s: float = 0) -> Iterator[None]:
    """Hold a lock file during work that only one process may do at a time; killing a process frees it.

    On a file system without locks this warns. On Windows nothing is checked.

    Args:
        path: the lock file; in a folder that is not renamed.
        work: the work, for the message: "another {work}".
        fix: what to do if another process holds it, for the message.
        patience_s: seconds to wait for a process on another machine: if that machine dies, the file server
            frees the lock only after a while.

    Raises:
        OutputError: another process holds it, or it cannot be made.
    """
    lock = _hold(path, work, fix, time.monotonic() + patience_s)
    try:
        if not lock.supported and os.name != "nt":
            message = f"{path}: this file system has no locks, so nothing stops another {work}."
            warnings.warn(message, stacklevel=3)
        lock.note(f"{socket.gethostname()} {os.getpid()}\n")
        yield
    finally:
        lock.release(remove=True)


def _hold(path: Path, work: str, fix: str, end: float) -> Lock:
    here = socket.gethostname()
    make_folder(path.parent)
    while True:
        try:
            return Lock(path)
        except LockedError as error:
            host, process = _holder(path)
            if host in ("", here) or time.monotonic() >= end:
                by = f": process {process} on {host}" if host else ""
                message = f"another {work} is running{by} ({path} is locked). Fix: {fix}"
                raise OutputError(message) from error
        except OSError as error:
            raise output_error(path, error) from error
        time.sleep(_RETRY_S)


def _holder(path: Path) -> tuple[str, str]:
    """Host and process in a lock file; empty if it cannot be read."""
    try:
        host, process = path.read_text(encoding="utf-8", errors="replace").split()
    except (OSError, ValueError):
        return "", ""
    return host, process


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive by its first bytes, as files of `torch.save` are since PyTorch 1.6.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def archive_damage(path: Path) -> str:
    """Check a zip archive by its own checksums, which PyTorch ignores on reading.

    Args:
        path: any file.

    Returns:
        The damage, in words for a message; empty if there is none, or if the file has no checksums.

    Raises:
        OSError: it cannot be opened.
    """
    if not is_archive(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            size, held = path.stat().st_size, sum(entry.file_size for entry in archive.infolist())
            # `torch.save` compresses nothing.
            if held > _MOST_COMPRESSED * size:
                return f"its parts claim {held} bytes, in a file of {size}"
            # `torch.serialization.set_crc32_options(False)` leaves them out.
            if not any(entry.CRC for entry in archive.infolist()):
                return ""
            wrong = archive.testzip()
    except Exception as error:  # damaged offsets and names raise nearly anything
        return f"its parts are not to be found ({error!r:.200})"
    return f"the checksum of {wrong} in it is wrong" if wrong else ""


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents.

    Raises:
        OutputError: this fails.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path, error: OSError) -> OutputError:
    """The error to raise for an operating system error on writing a path."""
    return OutputError(f"cannot write {path}: {error.strerror or error}")
