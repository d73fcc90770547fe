"""Finding images, and the names BasicSR can use for them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

# How many names a message shows.
_SHOWN = 3


class DataSetError(ValueError):
    """Data that cannot be used; the message names them and the mend."""


def some_of(names: Sequence[object]) -> str:
    """The first names of several, for a message."""
    shown = ", ".join(map(str, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def image_list(path: Path) -> list[str]:
    """The lines of a meta info file that say something.

    Raises:
        DataSetError: the file is missing or no text.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataSetError(
            f"{path}, which is to list the images, cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise DataSetError(
            f"{path}, which is to list the images, is no text in UTF-8: save it as that"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def list_images(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[PurePosixPath]:
    """The images below a folder, at any depth, sorted, as paths relative to it.

    Hidden files and folders (leading dot) are passed over, and links to a folder above them.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"no such folder: {folder}")
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        above = {*(place := Path(parent).resolve()).parents, place}
        folders[:] = [
            name for name in folders if not name.startswith(".") and Path(parent, name).resolve() not in above
        ]
        relative = Path(parent).relative_to(folder)
        found += [
            PurePosixPath(relative.as_posix(), name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes
        ]
    return sorted(found)


def flat_name(relative: PurePosixPath) -> str:
    """The name, without suffix, under which BasicSR can use an image found at this relative path.

    BasicSR does not look into sub-folders, cuts a name in ``meta_info.txt`` at its first dot or space, and
    takes only ASCII as a key. So folders are joined by underscores, other ASCII signs become underscores and
    any other letter becomes its code point: ``holiday 2/père.v1.png`` gives ``holiday_2_pu00e8re_v1``.
    """
    joined = "_".join((*relative.parts[:-1], relative.stem))
    ascii_only = "".join(letter if letter.isascii() else f"u{ord(letter):04x}" for letter in joined)
    return re.sub(r"[^0-9A-Za-z_-]", "_", ascii_only)
