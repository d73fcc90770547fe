"""Reference figures, published or computed by the published code: `published.json` beside this file."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import NamedTuple


class Published(NamedTuple):
    """Means over a dataset, and where they were found."""

    psnr: float
    ssim: float
    source: str


def published_figures(preset: str | None, scale: int, data: str) -> Published | None:
    """The reference figures of a network on a dataset, if there are any.

    Args:
        preset: key of `lmlt_arch.archs.PRESETS`, or None for a network of one's own.
        scale: of the network.
        data: the dataset's name; capitals do not matter.
    """
    table = json.loads(files(__package__).joinpath("published.json").read_text(encoding="utf-8"))
    for figure in table["figures"]:
        if (figure["network"], figure["scale"], figure["data"].lower()) == (preset, scale, data.lower()):
            return Published(figure["psnr"], figure["ssim"], table["sources"][figure["source"]])
    return None
