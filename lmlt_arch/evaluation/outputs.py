"""Checks of the files that an evaluation writes, before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmlt_arch.errors import UsageError
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


def check_outputs(outputs: Sequence[Path], inputs: Iterable[Path]) -> None:
    """Refuse outputs that could not be written, or should not, before the work that they are for.

    Raises:
        UsageError: one is an input, or two are the same file.
        OutputError: a folder is missing or not writable, or an output is itself a folder.
    """
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        _check_writable(path)
        if path.resolve() in taken:
            raise UsageError(f"{path} would be overwritten: choose another output")
        taken.add(path.resolve())


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: Permission denied")
