"""`lmlt prepare` run in this process, and its outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lmlt_arch.cli import main

Photos = dict[str, NDArray[np.uint8]]


def load(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def prepare(source: Path, *args: object) -> int:
    """Run the command in this process; outputs go to the source's parent."""
    return main(["prepare", str(source), "-o", str(source.parent), "--workers", "0", *map(str, args)])


def mod_crop(pixels: NDArray[np.uint8], mod: int) -> NDArray[np.uint8]:
    return pixels[: pixels.shape[0] // mod * mod, : pixels.shape[1] // mod * mod]
