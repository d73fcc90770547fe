"""Protection of text in CSV files, which spreadsheet programs would compute as formulas."""

from __future__ import annotations

# The last four are the full-width ones of the first four.
_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_text(value: str) -> str:
    """The text of a cell, with an apostrophe before what would be computed; numbers stay."""
    if not value.startswith(_BEGINNINGS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
