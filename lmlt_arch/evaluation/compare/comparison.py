"""One image upscaled in several ways, beside its ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.imresize import imresize
from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.models import LoadedModel
from lmlt_arch.evaluation.pairs import BICUBIC, Scores, read_pair, score

Pixels = NDArray[np.uint8]

# Sides of crops that are chosen: a quarter of the image's shorter side, within these.
CROP_SIDES = (32, 96)


class Crop(NamedTuple):
    """A part of an upscaled image, in its pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, image: Pixels) -> Pixels:
        """That part of an image of shape (H, W, 3)."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


class Version(NamedTuple):
    """An upscaled image of shape (H, W, 3); scores where ground truth is known."""

    name: str
    pixels: Pixels
    scores: Scores | None


@dataclass(frozen=True)
class Comparison:
    """Versions of an image to show side by side.

    Attributes:
        name: of the image.
        scale: size of the versions over that of `lq`.
        lq: the image that was upscaled, (h, w, 3).
        gt: ground truth, (H, W, 3), if known.
        versions: bicubic, then each model.
    """

    name: str
    scale: int
    lq: Pixels
    gt: Pixels | None
    versions: list[Version]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the versions."""
        height, width = self.versions[0].pixels.shape[:2]
        return height, width


def compare(
    models: Sequence[LoadedModel], lq: Path | None, gt: Path | None, *, tile: int | None = None
) -> Comparison:
    """Upscale an image with each model, and bicubically.

    Args:
        models: of one scale.
        lq: the image; None to make it from `gt`.
        gt: ground truth, if there is any.
        tile: see `LoadedModel.upscale`.

    Raises:
        ImageError: a file that cannot be used.
        DataError: sizes that do not belong together, or a network that gives no image.
    """
    scale = models[0].scale
    named = lq or gt
    if named is None:
        raise ValueError("neither image nor ground truth")
    pair = read_pair(lq, gt, scale)
    upscaled = [(BICUBIC, imresize(pair.lq, scale))]
    upscaled += [(model.name, model.upscale(pair.lq, tile=tile)) for model in models]
    versions = [
        Version(
            name,
            pixels,
            None if pair.gt is None else score(pixels, pair.gt, border=scale, name=str(named)),
        )
        for name, pixels in upscaled
    ]
    return Comparison(named.stem, scale, pair.lq, pair.gt, versions)


def check_crop(crop: Crop, comparison: Comparison) -> None:
    """Refuse a crop that is not inside the image.

    Raises:
        UsageError: it names the image's size.
    """
    height, width = comparison.size
    if crop.width < 1 or crop.height < 1 or crop.x < 0 or crop.y < 0:
        raise UsageError(f"--crop {' '.join(map(str, crop))}: X Y must be 0 or more, W H 1 or more")
    if crop.x + crop.width > width or crop.y + crop.height > height:
        raise UsageError(
            f"--crop {' '.join(map(str, crop))} reaches beyond the upscaled {comparison.name} "
            f"of {width}x{height} pixels"
        )


def choose_crops(comparison: Comparison, count: int) -> list[Crop]:
    """The places where the versions differ most, none overlapping another.

    Args:
        comparison: of at least one model.
        count: how many; fewer if the image is too small.
    """
    height, width = comparison.size
    side = min(max(min(width, height) // 4, CROP_SIDES[0]), CROP_SIDES[1])
    crop_width, crop_height = min(side, width), min(side, height)
    gray = [version.pixels.mean(-1, dtype=np.float32) for version in comparison.versions]
    differing = np.std(gray, axis=0)
    sums = _window_sums(differing, crop_height, crop_width)
    crops = []
    for _ in range(count):
        y, x = np.unravel_index(sums.argmax(), sums.shape)
        if np.isneginf(sums[y, x]):
            break
        crops.append(Crop(int(x), int(y), crop_width, crop_height))
        sums[
            max(0, y - crop_height + 1) : y + crop_height, max(0, x - crop_width + 1) : x + crop_width
        ] = -np.inf
    return crops


def _window_sums(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float64]:
    """Sums over every window that fits, by its top left corner."""
    corners = np.pad(values.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    rows = corners[height:] - corners[:-height]
    sums: NDArray[np.float64] = rows[:, width:] - rows[:, :-width]
    return sums
