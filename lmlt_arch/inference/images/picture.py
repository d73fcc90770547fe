"""A decoded image: its pixels and the metadata of its file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.images.details import Details

Pixels = NDArray[Any]
"""uint8, uint16, or float32 in [0, 1]."""


@dataclass(frozen=True)
class Picture:
    """A decoded image, upright.

    Attributes:
        color: (H, W, 3) RGB or (H, W, 1) gray.
        alpha: (H, W), 0 is transparent; the same type as `color`.
        details: the metadata of its file.
        format: key of `FORMATS`.
        bits: of the 16 per channel, how many the file had; an AVIF has 10 or 12.
    """

    color: Pixels
    alpha: Pixels | None = None
    details: Details = field(default_factory=Details)
    format: str = "png"
    bits: int = 16

    @property
    def depth(self) -> int:
        """Bits per channel; 32 is float."""
        return self.color.itemsize * 8

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.color.shape[0], self.color.shape[1]

    def pixels(self) -> Pixels:
        """(H, W, 1 to 4): colors, and alpha if there is any."""
        return self.color if self.alpha is None else np.concatenate([self.color, self.alpha[..., None]], -1)

    def with_pixels(self, pixels: Pixels) -> Picture:
        """The same with other pixels (H, W, 1 to 4)."""
        colors = 3 if pixels.shape[2] >= 3 else 1
        alpha = pixels[..., colors] if pixels.shape[2] > colors else None
        return replace(self, color=pixels[..., :colors], alpha=alpha)

    def is_opaque(self) -> bool:
        """Whether no pixel is transparent."""
        if self.alpha is None:
            return True
        most = 1 if self.depth == 32 else np.iinfo(self.alpha.dtype).max
        return bool(self.alpha.min() == most)

    def on_background(self, background: tuple[int, int, int]) -> Picture:
        """The same composited on a color, RGB in 0..255, and so without transparency."""
        if self.alpha is None:
            return self
        most = 1.0 if self.depth == 32 else float(np.iinfo(self.color.dtype).max)
        below = np.array(background, np.float32) / 255 * most
        share = self.alpha[..., None].astype(np.float32) / most
        mixed = self.color * share + below * (1 - share)
        if self.depth < 32:
            mixed = np.rint(mixed)
        return replace(self, color=mixed.astype(self.color.dtype), alpha=None)
