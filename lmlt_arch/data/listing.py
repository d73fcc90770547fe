"""Finding images in folders and lists, and names for them that BasicSR can use."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from lmlt_arch.errors import LmltError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""Of images that are prepared, trained on and compared; `lmlt upscale` reads more."""

OPENCV_SUFFIXES = IMAGE_SUFFIXES | {
    *(".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".jpe", ".jp2", ".dib", ".ras", ".sr", ".hdr", ".exr"),
    *(".gif", ".tga", ".avif", ".jxl"),
}
"""Of images that OpenCV, and so BasicSR, may read as well."""

LONGEST_NAME = 255
"""Longest name of a file on most file systems, in bytes."""

# How many names a message shows.
_SHOWN = 3


class DatasetError(LmltError, ValueError):
    """A dataset that cannot be used; the message names it and the fix."""


def some_of(names: Sequence[object]) -> str:
    """The first names of several, for a message."""
    shown = ", ".join(map(str, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def image_list(path: Path) -> list[str]:
    """The lines of a meta info file that are not blank.

    Raises:
        DatasetError: the file is missing or no text in UTF-8.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(
            f"{path}, which is to list the images, cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}, which is to list the images, is no text in UTF-8: save it as that"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Found:
    """The files below a folder.

    Attributes:
        images: paths relative to the folder, sorted.
        others: how many other files there are, by suffix; those with a leading dot are `hidden`.
        unreadable: the errors of folders that cannot be listed.
    """

    images: list[PurePosixPath] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    unreadable: list[OSError] = field(default_factory=list)


def look_through(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> Found:
    """Find the images below a folder, at any depth.

    Hidden files and folders (leading dot) are skipped, and links to a folder above them.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"no such folder: {folder}")
    found = Found()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=found.unreadable.append):
        above = {*(place := Path(parent).resolve()).parents, place}
        folders[:] = [
            name for name in folders if not name.startswith(".") and Path(parent, name).resolve() not in above
        ]
        relative = Path(parent).relative_to(folder)
        for name in names:
            kind = kind_of(PurePosixPath(name))
            if kind in suffixes:
                found.images.append(PurePosixPath(relative.as_posix(), name))
            else:
                found.others[kind] += 1
    found.images.sort()
    return found


def list_images(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[PurePosixPath]:
    """The images below a folder, at any depth, sorted, as paths relative to it; see `look_through`.

    Raises:
        NotADirectoryError: there is no such folder.
        OSError: a folder cannot be listed, or a path with the suffix of an image is a pipe or a device.
    """
    found = look_through(folder, suffixes)
    if found.unreadable:
        raise found.unreadable[0]
    for name in found.images:
        if (reason := why_no_file(folder / name)) is not None:
            raise OSError(f"{folder / name} {reason}: move it away")
    return found.images


def kind_of(path: PurePath) -> str:
    """The kind of a file by its name: its suffix, `hidden` with a leading dot, or `without suffix`."""
    return "hidden" if path.name.startswith(".") else path.suffix.lower() or "without suffix"


def why_no_file(path: Path) -> str | None:
    """Why a path must not be opened: reading a pipe waits for a writer, a device may have no end.

    Returns:
        Words for a message; None for a file, and for a missing one, which fails on opening.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return f"is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file"


def passed_over(folder: Path, others: Counter[str]) -> list[str]:
    """At most one line, with the number of a folder's files that are skipped, by kind."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    return [f"{folder}: passed over, being of other kinds: {kinds}"] if kinds else []


def flat_name(relative: PurePosixPath) -> str:
    """The name, without suffix, under which BasicSR can use an image found at this relative path.

    BasicSR does not read sub-folders, cuts a name in `meta_info.txt` at its first dot or space, and
    takes only ASCII as a key. So folders are joined by underscores, other ASCII signs become underscores and
    any other letter becomes its code point: `holiday 2/père.v1.png` gives `holiday_2_pu00e8re_v1`.
    """
    joined = "_".join((*relative.parts[:-1], relative.stem))
    ascii_only = "".join(letter if letter.isascii() else f"u{ord(letter):04x}" for letter in joined)
    return re.sub(r"[^0-9A-Za-z_-]", "_", ascii_only)
