"""Standard input, output and error, which may be closed, full or without a character; progress bars."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lmlt_arch.files import OutputError

if TYPE_CHECKING:
    from tqdm import tqdm


class StandardOutputError(OutputError):
    """Standard output that cannot be written."""


class _Stream:
    """A standard stream; subclasses say what happens where it cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Output(_Stream):
    """Standard output: what is printed is a result, and its loss an error."""

    def write(self, text: str) -> int:
        with _naming_output():
            return self._stream.write(text)

    def flush(self) -> None:
        with _naming_output():
            self._stream.flush()


class _Errors(_Stream):
    """Standard error: a message that cannot be printed does not stop the work."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


@contextmanager
def _naming_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StandardOutputError(f"cannot write to standard output: {error.strerror or error}") from error


@contextmanager
def standard_streams() -> Iterator[None]:
    """Replace the standard streams: closed ones lead nowhere, and any file name can be printed."""
    _open_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            # A name that the stream's encoding lacks is no reason to stop.
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = _Output(sys.stdout), _Errors(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Open the standard streams that are closed, so that no file gets their descriptors, and their text."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def give_up_output() -> None:
    """Drop what standard output could not take: Python would report it again when it closes the stream."""
    with suppress(OSError, ValueError):  # a replacement may have no file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(text: str) -> str:
    """A text with its line breaks and whatever else a terminal would not show as letters written out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def progress_bar(description: str, unit: str, total: int) -> tqdm[Any]:
    """A bar with the remaining time; redrawn every 10 seconds where it goes to a file."""
    # Not when a command starts: most of them show none.
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10
    return tqdm(total=total, desc=description, unit=unit, mininterval=interval)
