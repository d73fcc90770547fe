"""Checks of the files that are named on the command line."""

from __future__ import annotations

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
