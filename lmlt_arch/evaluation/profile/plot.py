"""A profile as a picture: quality against latency, the area of a dot for memory."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from lmlt_arch.errors import DataError, MissingPackageError, pip_install
from lmlt_arch.evaluation.figures import new_figure, to_png
from lmlt_arch.evaluation.profile.run import Row

# Area in points squared of the dot that needs most memory, and of one whose memory is not known.
LARGEST_DOT, PLAIN_DOT = 1600, 80


class Quality(NamedTuple):
    """Results of `lmlt benchmark` on one dataset: PSNR by scale and network, file or preset."""

    data: str
    psnr: dict[tuple[int, str], float]

    def of(self, row: Row) -> float | None:
        """PSNR of a row's network."""
        names = (row.source.name, row.source.text)
        return next((self.psnr[row.scale, name] for name in names if (row.scale, name) in self.psnr), None)


class Dot(NamedTuple):
    """A row in the plot."""

    row: Row
    latency: float
    height: float


def read_quality(path: Path) -> Quality:
    """Read the JSON of `lmlt benchmark`; of several datasets, the first.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        data = results[0]["data"]
        psnr = {
            (entry["scale"], name): entry["mean"]["psnr"]
            for entry in results
            if entry["data"] == data and entry["mean"]["psnr"] is not None
            for name in (entry["preset"], entry["file"], entry["network"])
            if name
        }
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path} is no JSON that lmlt benchmark wrote, with PSNR") from error
    return Quality(data, psnr)


def check_plots() -> None:
    """Refuse to plot before the work is done that would be plotted.

    Raises:
        MissingPackageError: matplotlib is missing.
    """
    if find_spec("matplotlib") is None:
        raise MissingPackageError(f"--plot needs matplotlib: {pip_install('plots')}")


def dots_of(rows: Sequence[Row], quality: Quality | None) -> list[Dot]:
    """The rows that have a place: PSNR, or multiply-adds where no quality is given, over latency."""
    dots = []
    for row in rows:
        counted = row.complexity.multiply_adds / 1e9 if row.complexity else None
        height = quality.of(row) if quality else counted
        if row.quartiles and height is not None:
            dots.append(Dot(row, 1000 * row.quartiles[1], height))
    return dots


def draw_plot(rows: Sequence[Row], quality: Quality | None) -> bytes:
    """Draw a PNG, a panel for each scale.

    Raises:
        DataError: nothing to draw.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    dots = dots_of(rows, quality)
    if not dots:
        raise DataError(
            "nothing to plot: no network has both a latency and " + ("a PSNR" if quality else "a count")
        )
    scales = sorted({dot.row.scale for dot in dots})
    names = list(dict.fromkeys(dot.row.source.name for dot in dots))
    most = max((dot.row.memory or 0 for dot in dots), default=0)
    figure = new_figure(6.5 * len(scales), 5)
    for axes, scale in zip(figure.subplots(1, len(scales), squeeze=False)[0], scales, strict=True):
        for dot in (dot for dot in dots if dot.row.scale == scale):
            share = (dot.row.memory or 0) / most if most else 0
            color = f"C{names.index(dot.row.source.name) % 10}"
            area = share * LARGEST_DOT or PLAIN_DOT
            axes.scatter(dot.latency, dot.height, s=area, color=color, alpha=0.6, edgecolors="black")
            axes.annotate(
                _label(dot.row, rows),
                (dot.latency, dot.height),
                xytext=(0, math.sqrt(area / math.pi) + 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
            )
        axes.set(title=f"x{scale}", xscale="log", xlabel="latency of a batch, ms")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(f"PSNR on {quality.data}, dB" if quality else "multiply-adds, G")
        axes.margins(0.25)
        axes.grid(alpha=0.3, which="both")
    if most:
        figure.supxlabel(f"area of a dot: peak memory, the largest {most / 2**20:,.0f} MiB", fontsize=8)
    return to_png(figure)


def _label(row: Row, rows: Sequence[Row]) -> str:
    """The network's name, and the conditions in which its rows differ."""
    conditions: list[tuple[Any, set[Any]]] = [
        (row.dtype, {other.dtype for other in rows}),
        (row.attn, {other.attn for other in rows if other.attn}),
        (f"batch {row.batch}", {other.batch for other in rows}),
    ]
    return " ".join([row.source.name, *(value for value, all_of in conditions if value and len(all_of) > 1)])
