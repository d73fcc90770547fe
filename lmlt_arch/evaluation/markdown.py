"""Tables in Markdown that can be read as they are, too."""

from collections.abc import Sequence


def cell(text: str) -> str:
    """Text that does not end its cell."""
    return text.replace("|", "\\|")


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
