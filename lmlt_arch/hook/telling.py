"""What the hook says when something fails: one warning in a process, and never an error."""

from __future__ import annotations

import sys
import warnings

failures: list[str] = []
"""Everything that failed in this process; `lmlt doctor` shows it."""


def tell_once(text: str) -> None:
    """Warn about a failure, the first in this process only; all of them are kept in `failures`."""
    failures.append(text)
    if len(failures) > 1:
        return
    message = f"basicsr-lmlt: {text} `lmlt doctor` says more."
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:
        # Where warnings are errors, an import of somebody else's package must not die of ours.
        sys.stderr.write(f"{message}\n")
