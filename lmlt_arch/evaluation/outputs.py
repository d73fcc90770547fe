"""Files that an evaluation writes."""

import os
from pathlib import Path

from lmlt_arch.files import OutputError


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
