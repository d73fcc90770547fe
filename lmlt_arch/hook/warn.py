"""Warnings about failures in the hook: one in a process, and never an error."""

from __future__ import annotations

import sys
import warnings

failures: list[str] = []
"""Everything that failed in this process."""


def warn_once(text: str) -> None:
    """Warn about a failure, the first in this process only; all of them are kept in `failures`.

    Args:
        text: a sentence.
    """
    failures.append(text)
    if len(failures) > 1:
        return
    message = f"basicsr-lmlt: {text} `lmlt doctor` says more."
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:
        # Where warnings are errors, the import of another package must not fail because of this one.
        sys.stderr.write(f"{message}\n")
