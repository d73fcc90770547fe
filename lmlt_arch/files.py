"""Writing files whole or not at all."""

import errno
import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"

# Bytes of a name: most file systems take 255, and those that encrypt names 143.
_LONG = 100

_ARCHIVE = b"PK\x03\x04"


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
    temporary = path.with_name(f".{shortened(path.name)}.{os.getpid()}{suffix}")
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


def shortened(name: str) -> str:
    """A name to which more can be added: a long one is cut, and told apart by a checksum."""
    if len(os.fsencode(name)) <= _LONG:
        return name
    return f"{name[: _LONG // 4]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def is_archive(path: Path) -> bool:
    """Whether a file begins like a zip archive, as those of `torch.save` have since PyTorch 1.6.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def archive_damage(path: Path) -> str:
    """What is wrong with a zip archive by its own checksums, which PyTorch does not look at when it reads.

    Args:
        path: any file.

    Returns:
        Words for a message; empty if the file is whole or has no checksums.

    Raises:
        OSError: it cannot be opened.
    """
    if not is_archive(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            # `torch.serialization.set_crc32_options(False)` leaves them out.
            if not any(entry.CRC for entry in archive.infolist()):
                return ""
            wrong = archive.testzip()
    except Exception as error:  # damaged offsets and names raise nearly anything
        return f"its parts are not to be found ({error!r:.200})"
    return f"the checksum of {wrong} in it is wrong" if wrong else ""


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
