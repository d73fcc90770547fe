"""Files that an evaluation writes."""

import os
from collections.abc import Sequence
from pathlib import Path

from lmlt_arch.evaluation.errors import UsageError
from lmlt_arch.files import OutputError


def with_endings(prefix: Path | None, endings: Sequence[str]) -> list[Path]:
    """PREFIX.md and so on; none without a prefix.

    Raises:
        UsageError: the prefix has no name.
    """
    if prefix is None:
        return []
    if prefix.is_dir() or not prefix.name:
        raise UsageError(f"-o {prefix} is a folder: give the start of a file's name, as {prefix}/table")
    return [prefix.with_name(f"{prefix.name}{ending}") for ending in endings]


def check_writable(path: Path) -> None:
    """Refuse an output that could not be written, before the work that it is for.

    Raises:
        OutputError: its folder is missing or not writable, or it is itself a folder.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: Permission denied")
