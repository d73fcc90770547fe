"""Pictures by matplotlib that need no display."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as a PNG file."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        # What we write are names, in which dollars are no formulas; the ticks of axes write their own later.
        if isinstance(text, Text) and r"\mathdefault" not in text.get_text():
            text.set_parse_math("$" not in text.get_text())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
