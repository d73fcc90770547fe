"""Errors at the borders of attention windows against those inside of them.

What an image shows decides about errors far more than any window does. So the network sees each image
several times, mirrored on at its top and left by some pixels: its windows then stand elsewhere on the same
content, and only values of the same place are compared, with the border there and with it elsewhere.

Everything is measured at lines between input pixels: line x stands left of column x. Two measures:

- energy: mean squared error of the pixels up to `band` input pixels from the line, on both sides;
- step: mean square of the change of the error across it, which seams raise even where errors do not grow.

A line's phase is its distance from the window's border, at the left or above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from common.statistics import Interval, bootstrap
from lmlt_arch.archs.common.padding import mirror_pad
from lmlt_arch.evaluation.models import full_precision

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MEASURES = ("energy", "step")
# Input pixels at the border of the image that are left out: errors are larger there for other reasons.
MARGIN = 4
# Side in input pixels of the parts of images that are resampled.
_BLOCK = 32
# Where errors are smaller than this, they count for little.
_GRAY_LEVEL = (1 / 255) ** 2


@dataclass(frozen=True)
class Boundaries:
    """What was found at the borders of windows of one size.

    Attributes:
        window: side in input pixels.
        ratio: the measure at borders over that of the same places inside of windows.
        beyond_finer: the same over that of the same places at borders of only the next finer windows: what
            this level adds to them. None at the finest level.
        control: least and largest value of `curve` inside of windows.
        curve: (window,), the ratio at every phase, 0 first; NaN where no place has another to compare with.
        blocks: how many blocks of the images were resampled for the intervals.
    """

    window: int
    ratio: Interval
    beyond_finer: Interval | None
    control: tuple[float, float]
    curve: Array
    blocks: int

    def to_json(self) -> dict[str, Any]:
        """Types that JSON knows; intervals as value, low and high."""
        curve = [None if np.isnan(value) else float(value) for value in self.curve]
        return {**asdict(self), "curve": curve}


@dataclass(frozen=True)
class Errors:
    """Errors of a network on an image, its windows in several places.

    Attributes:
        shifts: by how many input pixels the windows stood further up and left.
        cells: (shifts, h, w), mean squared error under each input pixel.
        steps: mean squared change of the error across lines 1, 2, …: (shifts, h, w - 1) for vertical lines,
            (shifts, w, h - 1) for horizontal ones.
    """

    shifts: Sequence[int]
    cells: Array
    steps: tuple[Array, Array]

    def lines(self, measure: str, band: int) -> list[tuple[int, Array]]:
        """A measure at vertical and at horizontal lines, without the margin.

        Args:
            measure: of `MEASURES`.
            band: input pixels on each side of a line, for the energy.

        Returns:
            For each direction the number of the first line, and (shifts, pixels along the lines, lines).
        """
        inner = slice(MARGIN, -MARGIN)
        if measure == "step":
            return [(MARGIN + 1, steps[:, inner, inner]) for steps in self.steps]
        cells = self.cells[:, inner, inner]
        return [(MARGIN + band, _running_mean(turned, 2 * band)) for turned in (cells, cells.swapaxes(1, 2))]


def choose_shifts(windows: Sequence[int], count: int) -> list[int]:
    """Shifts by which each border meets the inside of windows, and borders of the next finer windows only.

    Args:
        windows: sides, finest first, each a multiple of the one before.
        count: places within the finest window.
    """
    within = [round(number * windows[0] / count) for number in range(count)]
    between = [sum(windows[:level]) for level in range(len(windows))]
    return [first + second for first in within for second in between]


def find_errors(network: nn.Module, lq: Tensor, gt: Tensor, shifts: Sequence[int], *, scale: int) -> Errors:
    """Upscale an image with windows in several places.

    Args:
        network: maps (1, 3, h, w) to (1, 3, h * scale, w * scale).
        lq: (3, h, w), where the network is.
        gt: (3, h * scale, w * scale), on the CPU.
        shifts: see `Errors`.
        scale: output size over input size.
    """
    errors = []
    for shift in shifts:
        with torch.inference_mode(), full_precision():
            output = network(mirror_pad(lq[None], top=shift, left=shift))[
                0, :, shift * scale :, shift * scale :
            ]
        errors.append(output.clamp(0, 1).cpu() - gt)
    error = torch.stack(errors).double()
    return Errors(shifts, _cells(error, scale).numpy(), (_steps(error, scale), _steps(error.mT, scale)))


def find_boundaries(
    errors: Sequence[Errors], measure: str, window: int, *, finer: int | None = None, band: int = 1
) -> Boundaries | None:
    """Compare borders with the inside of windows.

    Places count alike, however large their errors: each is divided by its mean over the shifts.

    Args:
        errors: of each image.
        measure: of `MEASURES`.
        window: side in input pixels, more than `4 * band`.
        finer: side of the next finer windows.
        band: input pixels on each side of a border that are not inside.

    Returns:
        None where the images are too small to have such borders.
    """
    phases = np.arange(window)
    inside = np.minimum(phases, window - phases) >= 2 * band
    sums = _sums(errors, measure, band, inside)
    ratio = _ratio(sums)
    values, others = sums.sum(0)
    curve = np.divide(values, others, out=np.full(window, np.nan), where=others > 0)
    control = curve[inside & np.isfinite(curve)]
    if ratio is None or not len(control):
        return None
    beyond = None
    if finer is not None:
        beyond = _ratio(_sums(errors, measure, band, (phases % finer == 0) & (phases > 0)))
    return Boundaries(window, ratio, beyond, (float(control.min()), float(control.max())), curve, len(sums))


def folded_map(errors: Sequence[Errors], window: int) -> Array:
    """Energy by the place in a window, over its mean at the same content: (window, window)."""
    total, expected = np.zeros((window, window)), np.zeros((window, window))
    for found in errors:
        cells = found.cells[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        mean = cells.mean(0)
        for shift, image in zip(found.shifts, cells, strict=True):
            places = np.ix_(*((np.arange(length) + MARGIN + shift) % window for length in mean.shape))
            np.add.at(total, places, image / (mean + _GRAY_LEVEL))
            np.add.at(expected, places, mean / (mean + _GRAY_LEVEL))
    return np.divide(total, expected, out=np.ones_like(total), where=expected > 0)


def _cells(error: Tensor, scale: int) -> Tensor:
    return F.avg_pool2d(error.square().mean(1), scale)


def _steps(error: Tensor, scale: int) -> Array:
    steps = error[..., scale::scale] - error[..., scale - 1 : -1 : scale]
    return F.avg_pool2d(steps.square().mean(1), (scale, 1)).numpy()


def _running_mean(values: Array, width: int) -> Array:
    """Along the last axis; shorter by `width - 1`, or empty."""
    if values.shape[-1] < width:
        return values[..., :0]
    return np.lib.stride_tricks.sliding_window_view(values, width, -1).mean(-1)


def _sums(errors: Sequence[Errors], measure: str, band: int, others: Mask) -> Array:
    """For each block of the images and each phase, the measure, and that of the same places at other phases.

    Args:
        errors: of each image.
        measure: of `MEASURES`.
        band: input pixels on each side of a line.
        others: (window,), the phases to compare with.

    Returns:
        (blocks, 2, window).
    """
    blocks = []
    for found in errors:
        # Vertical and horizontal lines of one block go together: they are of the same errors.
        across, along = (
            _block_sums(first, values, found.shifts, others) for first, values in found.lines(measure, band)
        )
        total = np.zeros(np.maximum(across.shape, along.swapaxes(0, 1).shape))
        total[: across.shape[0], : across.shape[1]] += across
        total[: along.shape[1], : along.shape[0]] += along.swapaxes(0, 1)
        blocks.append(total.reshape(-1, *total.shape[2:]))
    return np.concatenate(blocks)


def _block_sums(first: int, values: Array, shifts: Sequence[int], others: Mask) -> Array:
    """The sums of one map: (blocks along the lines, blocks across them, 2, window).

    Args:
        first: number of the first line.
        values: (shifts, pixels along the lines, lines).
        shifts: see `Errors`.
        others: (window,), the phases to compare with.
    """
    numbers = first + np.arange(values.shape[2])
    phases = (numbers + np.array(shifts)[:, None]) % len(others)
    weight = 1 / (values.mean(0) + _GRAY_LEVEL)
    other = others[phases]
    # What a value is compared with leaves out the value itself.
    count = other.sum(0) - other
    rest = (values * other[:, None]).sum(0) - values * other[:, None]
    rest = rest / np.maximum(count, 1)[:, None]
    rows = np.arange(0, values.shape[1], _BLOCK)
    lefts = range(0, values.shape[2], _BLOCK)
    own, rest = (np.add.reduceat(weight * part, rows, axis=1) for part in (values, rest))
    sums = np.zeros((len(rows), len(lefts), 2, len(others)))
    for column, left in enumerate(lefts):
        part = slice(left, left + _BLOCK)
        usable = count[:, part] > 0
        at = phases[:, part][usable]
        for row in range(len(rows)):
            for kind, terms in enumerate((own, rest)):
                sums[row, column, kind] = np.bincount(at, terms[:, row, part][usable], len(others))
    return sums


def _ratio(sums: Array) -> Interval | None:
    """Of the measure at borders and that of the same places elsewhere; None where there is none."""
    at_border = sums[:, :, 0]
    at_border = at_border[at_border[:, 1] > 0]
    if not len(at_border):
        return None
    return bootstrap(at_border, lambda sample: float(np.divide(*sample.sum(0))))
