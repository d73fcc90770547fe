"""Types and checks of arguments on the command line."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path

from lmlt_arch.errors import MissingFileError


def check_file(path: Path) -> None:
    """Check that a path can be opened as a file.

    Raises:
        MissingFileError: there is nothing, a folder, a pipe or a device.
    """
    from lmlt_arch.data.listing import why_no_file

    if not os.path.lexists(path):
        raise MissingFileError(f"{path} cannot be read: {os.strerror(errno.ENOENT)}")
    if path.is_dir():
        raise MissingFileError(f"{path} cannot be read: {os.strerror(errno.EISDIR)}")
    if (reason := why_no_file(path)) is not None:
        raise MissingFileError(f"{path} {reason}")


def size(text: str) -> tuple[int, int]:
    """Height and width of `WxH`; 0 where a side follows from the aspect."""
    width, cross, height = text.lower().partition("x")
    try:
        sides = int(height or 0), int(width or 0)
    except ValueError:
        sides = (0, 0)
    if not cross or max(sides) < 1 or min(sides) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 1920x1080, 1920x or x1080")
    return sides


def color(text: str) -> tuple[int, int, int]:
    """Red, green and blue of `RRGGBB`, 0 to 255."""
    try:
        red, green, blue = bytes.fromhex(text.removeprefix("#"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no color: write FFFFFF for white") from error
    return red, green, blue


def tile(text: str) -> int | str:
    """Side of a tile in pixels, 0 for none, or `auto`."""
    if text == "auto":
        return text
    try:
        side = int(text)
    except ValueError:
        side = -1
    if side < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of tiles: write auto, 0 or a number of pixels")
    return side
