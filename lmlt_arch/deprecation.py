"""Warnings for public names that have changed."""

from __future__ import annotations

import warnings


def warn_renamed(old: str, new: str) -> None:
    """Warn the caller of the caller that it uses an old name.

    Args:
        old: the name that was used.
        new: the name to use.
    """
    text = f"{old} is now {new}; the old name works until 0.3"
    warnings.warn(text, DeprecationWarning, stacklevel=3)
