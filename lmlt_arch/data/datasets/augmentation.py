"""Random flips and rotations, sampled as in BasicSR's `augment`."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Turn(NamedTuple):
    """One of the eight ways to turn an image."""

    mirror: bool
    upside_down: bool
    transpose: bool

    def of(self, pixels: Pixels) -> Pixels:
        """A view of an image (h, w, c), turned."""
        if self.mirror:
            pixels = pixels[:, ::-1]
        if self.upside_down:
            pixels = pixels[::-1]
        return pixels.transpose(1, 0, 2) if self.transpose else pixels

    def undone(self, pixels: Pixels) -> Pixels:
        """A view of a turned image (h, w, c), turned back."""
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        if self.upside_down:
            pixels = pixels[::-1]
        return pixels[:, ::-1] if self.mirror else pixels


def random_turn(*, hflip: bool, rotate: bool) -> Turn:
    """Sample from Python's `random` as often as BasicSR, and in its order.

    Args:
        hflip: flip every other image horizontally.
        rotate: flip every other one vertically, and transpose every other one.
    """
    return Turn(
        mirror=hflip and random.random() < 0.5,
        upside_down=rotate and random.random() < 0.5,
        transpose=rotate and random.random() < 0.5,
    )
