"""Rows of the speed benchmark, their table and figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lmlt_arch.evaluation.figures import new_figure, to_png


class Row(NamedTuple):
    """What was measured of one side.

    Attributes:
        work: what ran.
        side: `plain`, or what it is compared with.
        seconds: median.
        ratio: median, least and largest of plain's time over this one's.
        memory: bytes above idle.
        recorded: seconds as a CUDA graph, median.
        matrix_share: of the rate that matrix work reaches here.
        copy_share: of the rate of copies.
        problem: why there is nothing of all that.
    """

    work: str
    side: str
    seconds: float | None = None
    ratio: tuple[float, float, float] | None = None
    memory: int | None = None
    recorded: float | None = None
    matrix_share: float | None = None
    copy_share: float | None = None
    problem: str | None = None


def to_markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [
        "| work | side | median, ms | plain's time over it (least to largest) | recorded, ms | peak, MiB"
        " | share of plain's | of the matrix peak | of copies |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    plain: dict[str, int | None] = {row.work: row.memory for row in rows if row.side == "plain"}
    for row in rows:
        if row.problem or row.seconds is None:
            lines.append(f"| {row.work} | {row.side} | {row.problem} | | | | | | |")
            continue
        ratio = "{:.2f} ({:.2f} to {:.2f})".format(*row.ratio) if row.ratio and row.side != "plain" else ""
        memory = f"{row.memory / 2**20:.0f}" if row.memory else ""
        base = plain.get(row.work)
        share = f"{row.memory / base:.2f}" if row.memory and base and row.side != "plain" else ""
        floor = [f"{100 * s:.0f}%" if s is not None else "" for s in (row.matrix_share, row.copy_share)]
        recorded = to_milliseconds(row.recorded) if row.recorded else ""
        cells = [row.work, row.side, to_milliseconds(row.seconds), ratio, recorded, memory, share, *floor]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def to_milliseconds(seconds: float) -> str:
    """Three digits."""
    milliseconds = 1000 * seconds
    return f"{milliseconds:.{max(0, 3 - len(f'{milliseconds:.0f}'))}f}"


def draw(rows: Sequence[Row]) -> bytes:
    """Bars of the ratios, with the spread."""
    works = list(dict.fromkeys(row.work for row in rows if row.ratio))
    sides = list(dict.fromkeys(row.side for row in rows if row.ratio and row.side != "plain"))
    figure = new_figure(9, 1 + 0.22 * len(works) * max(1, len(sides)))
    axes = figure.subplots()
    for number, side in enumerate(sides):
        shown = [row for row in rows if row.side == side and row.ratio]
        places = [works.index(row.work) + 0.8 * (number + 0.5) / len(sides) - 0.4 for row in shown]
        ratios = [row.ratio for row in shown if row.ratio]
        spread = [[m - low for m, low, _ in ratios], [high - m for m, _, high in ratios]]
        axes.barh(places, [m for m, _, _ in ratios], 0.8 / len(sides), xerr=spread, label=side)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(yticks=range(len(works)), yticklabels=works, xlabel="times faster than the plain reference")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend()
    return to_png(figure, dpi=110)
