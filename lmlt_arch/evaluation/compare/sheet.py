"""A comparison as a picture for papers: the whole image, and labeled crops beside it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lmlt_arch.evaluation.compare.comparison import Comparison, Crop

Pixels = NDArray[np.uint8]

# All in pixels of the picture.
CELL = 240  # what a crop is upscaled to, in whole steps
WHOLE_WIDTH = 560  # at most, for the whole image
TEXT_WIDTH = 320  # to which a line may widen its column
GAP = 12
FONT_SIZE = 16
LINE = 21
FRAME = 3

COLORS = ("#e6194b", "#1f78b4", "#33a02c", "#ff7f00", "#6a3d9a", "#b15928")
# From no error to the largest shown.
HEAT = ((0, 0, 0), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
# Errors above this share of all are shown as the largest, so that a few pixels do not darken the rest.
HEAT_PERCENTILE = 99.5


class _Cell(NamedTuple):
    """A picture with lines of text below it."""

    image: Image.Image
    lines: tuple[str, ...]


def draw_sheets(sheets: Sequence[tuple[Comparison, Sequence[Crop]]]) -> bytes:
    """Draw comparisons with their crops, one below the other, as PNG.

    Where ground truth is known, PSNR and SSIM of the whole image stand under the versions, and each crop has
    a second row with the error of each version, the mean of its three channels.
    """
    parts = [_draw(comparison, crops) for comparison, crops in sheets]
    width = max(part.width for part in parts)
    picture = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    y = 0
    for part in parts:
        picture.paste(part, (0, y))
        y += part.height
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _draw(comparison: Comparison, crops: Sequence[Crop]) -> Image.Image:
    rows = []
    for number, crop in enumerate(crops):
        rows.append([_framed(cell, _color(number)) for cell in _versions(comparison, crop)])
        if comparison.gt is not None:
            rows.append(_errors(comparison, comparison.gt, crop))
    grid = _grid(rows)
    whole = _whole(comparison, crops, grid.height)
    sheet = Image.new(
        "RGB", (whole.width + grid.width + 3 * GAP, max(whole.height, grid.height) + 2 * GAP), "white"
    )
    sheet.paste(whole, (GAP, GAP))
    sheet.paste(grid, (whole.width + 2 * GAP, GAP))
    return sheet


def _whole(comparison: Comparison, crops: Sequence[Crop], height: int) -> Image.Image:
    """The whole image with the places of the crops, its name below."""
    pixels = comparison.versions[-1].pixels if comparison.gt is None else comparison.gt
    room = height - 2 * LINE
    factor = min(WHOLE_WIDTH / pixels.shape[1], room / pixels.shape[0])
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    for number, crop in enumerate(crops):
        box = [crop.x, crop.y, crop.x + crop.width, crop.y + crop.height]
        draw.rectangle(
            [round(edge * factor) for edge in box], outline=COLORS[number % len(COLORS)], width=FRAME
        )
    what = "PSNR in dB / SSIM on Y, whole image" if comparison.gt is not None else "no ground truth"
    return _grid([[_Cell(image, (f"{comparison.name} x{comparison.scale}", what))]])


def _versions(comparison: Comparison, crop: Crop) -> list[_Cell]:
    cells = []
    if comparison.gt is not None:
        cells.append(_Cell(_upscaled(crop.of(comparison.gt)), ("GT", "PSNR / SSIM")))
    for version in comparison.versions:
        lines: tuple[str, ...] = (version.name,)
        if version.scores is not None:
            lines += (f"{version.scores.psnr:.2f} / {version.scores.ssim:.4f}",)
        cells.append(_Cell(_upscaled(crop.of(version.pixels)), lines))
    return cells


def _errors(comparison: Comparison, gt: Pixels, crop: Crop) -> list[_Cell]:
    """Errors of the versions on one scale of colors, which the first cell shows."""
    truth = crop.of(gt).astype(np.float64)
    errors = [np.abs(crop.of(version.pixels) - truth).mean(-1) for version in comparison.versions]
    largest = max(float(np.percentile(errors, HEAT_PERCENTILE)), 1.0)
    bar = np.linspace(largest, 0, CELL)[:, None].repeat(GAP, 1)
    legend = Image.new("RGB", _upscaled(truth.astype(np.uint8)).size, "white")
    ramp = Image.fromarray(_heat(bar, largest)).resize((GAP, legend.height))
    legend.paste(ramp, (legend.width - GAP, 0))
    draw = ImageDraw.Draw(legend)
    end = legend.width - GAP - 6
    for y, text, anchor in (
        (0, f"error {largest:.0f} or more", "ra"),
        (legend.height, "0", "rd"),
    ):
        draw.text((end, y), _fitting(text, end), fill="black", font=_font(), anchor=anchor)
    return [_Cell(legend, ()), *(_Cell(_upscaled(_heat(error, largest)), ()) for error in errors)]


def _heat(values: NDArray[np.float64], largest: float) -> Pixels:
    """Colors of numbers, (h, w) to (h, w, 3)."""
    stops = np.linspace(0, largest, len(HEAT))
    channels = [np.interp(values, stops, [color[i] for color in HEAT]) for i in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _upscaled(crop: Pixels) -> Image.Image:
    """Whole pixels, not interpolated, about as wide as a cell."""
    zoom = max(1, round(CELL / crop.shape[1]))
    return Image.fromarray(np.ascontiguousarray(crop).repeat(zoom, 0).repeat(zoom, 1))


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _framed(cell: _Cell, color: str) -> _Cell:
    image = cell.image.copy()
    ImageDraw.Draw(image).rectangle([0, 0, image.width - 1, image.height - 1], outline=color, width=FRAME)
    return cell._replace(image=image)


def _grid(rows: Sequence[Sequence[_Cell]]) -> Image.Image:
    """Rows of cells, columns below one another, text centered below each picture."""
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    heights = [
        max(cell.image.height for cell in row) + LINE * max(len(cell.lines) for cell in row) for row in rows
    ]
    gap = GAP // 2
    size = (sum(widths) + gap * (len(widths) - 1), sum(heights) + gap * (len(heights) - 1))
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for cell, width in zip(row, widths, strict=True):
            grid.paste(cell.image, (x + (width - cell.image.width) // 2, y))
            for number, line in enumerate(cell.lines):
                place = (x + width / 2, y + cell.image.height + LINE * (number + 0.5))
                draw.text(place, _fitting(line, width), fill="black", font=_font(), anchor="mm")
            x += width + gap
        y += height + gap
    return grid


def _width(cell: _Cell) -> int:
    """Of the picture, or of its text up to a limit."""
    text = max((_font().getlength(line) for line in cell.lines), default=0)
    return max(cell.image.width, min(math.ceil(text), TEXT_WIDTH))


def _fitting(text: str, width: float) -> str:
    """The text, cut where it would be wider."""
    if _font().getlength(text) <= width:
        return text
    while text and _font().getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)
