"""Markdown tables that are aligned in plain text, too; names in them are escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Signs with a meaning anywhere in a line: code, emphasis, HTML, entities, links, cells.
_MARKS = re.compile(r"[\\|`*]|\](?=[(\[:])|~(?=~)|(?<![^\W_])_|_(?![^\W_])")


def cell(text: str) -> str:
    """Text escaped for a cell of a table; invisible characters are shown as escapes."""
    seen = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
    # Not every renderer lets these two be escaped.
    seen = re.sub(r"&(?=#?\w+;)", "&amp;", seen).replace("<", "&lt;")
    return _MARKS.sub(r"\\\g<0>", seen)


def paragraph(text: str) -> str:
    """The same where a line begins: no heading, list or quotation."""
    return re.sub(r"^(\d*)([#>+=.)-])", r"\1\\\2", cell(text))


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table, its first column to the left, the others to the right, and an empty line."""
    rows = [[cell(text) for text in row] for row in (heads, *lines)]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(heads))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [
            row[0].ljust(widths[0]),
            *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)),
        ]
        for row in rows
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in [aligned[0], rule, *aligned[1:]])
