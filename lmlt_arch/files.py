"""Writing files whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


class OutputError(Exception):
    """The work cannot go on: the disk is full, a folder is not writable, and the like."""


def write_atomic(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file through a temporary neighbour, so that it is never seen half written.

    Args:
        path: the file.
        data: all of its content.
        durable: wait until the content is on the disk before the name appears, so that a power cut leaves
            either the old file or the new one. Slow for many small files.

    Raises:
        OutputError: If the disk is full, the folder is not writable, and so on; it names the file.
    """
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def writing(path: Path, *, suffix: str = TEMPORARY_SUFFIX) -> Iterator[Path]:
    """A temporary neighbour that takes the name of a file if the block ends well, and goes away if not.

    Args:
        path: the file.
        suffix: what the neighbour's name ends in, for writers and readers that go by it.

    Yields:
        The neighbour: an empty file, so that a folder that cannot be written to shows before the work.

    Raises:
        OutputError: If the disk is full, the folder is not writable, and so on; it names the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        try:
            temporary.touch()
            yield temporary
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise output_error(path, error) from error


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing.

    Raises:
        OutputError: If that is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path, error: OSError) -> OutputError:
    """The error to raise where writing a path met an operating system error."""
    return OutputError(f"cannot write {path}: {error.strerror or error}")
