"""Errors of exported files."""

from __future__ import annotations

from lmlt_arch.errors import LmltError

MISSING = '{name} is not installed: pip install "basicsr-lmlt[export]"'


class ExportError(LmltError):
    """A network that cannot be exported, or a file that cannot be run; the message says why."""
