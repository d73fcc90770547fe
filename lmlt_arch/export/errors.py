"""Errors of exported files."""

from __future__ import annotations

from lmlt_arch.errors import LmltError, pip_install

MISSING = f"{{name}} is not installed: {pip_install('export')}"


class ExportError(LmltError):
    """A network that cannot be exported, or a file that cannot be run; the message says why."""
