"""A contact sheet: crops of images in rows, each with lines of text under it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Image pixels that a tile shows, and how many pixels of the sheet each of them takes.
CROP = 112
UPSCALING = 2
_LINE_HEIGHT = 13
_MARGIN = 8
_LONGEST_LINE = 40
_BACKGROUND, _FRAME, _INK = (255, 255, 255), (224, 224, 224), (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """An image of shape (h, w, 3), at most ``CROP`` on a side, and the lines under it."""

    pixels: NDArray[np.uint8]
    lines: tuple[str, ...]


def make_tile(pixels: NDArray[np.uint8], lines: Sequence[str]) -> Tile:
    """Keep the middle of an image, shape (h, w, 3)."""
    top, left = (max(0, (side - CROP) // 2) for side in pixels.shape[:2])
    return Tile(pixels=pixels[top : top + CROP, left : left + CROP].copy(), lines=tuple(lines))


def draw_sheet(tiles: Sequence[Tile]) -> NDArray[np.uint8]:
    """Lay out one or more tiles in a sheet of about four to three; shape (h, w, 3)."""
    side = CROP * UPSCALING
    width = side + _MARGIN
    height = side + _MARGIN + _LINE_HEIGHT * max(len(tile.lines) for tile in tiles) + _MARGIN
    columns = min(len(tiles), math.ceil(math.sqrt(len(tiles) * height / width * 4 / 3)))
    lines = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * width + _MARGIN, lines * height + _MARGIN), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for index, tile in enumerate(tiles):
        left = _MARGIN + index % columns * width
        top = _MARGIN + index // columns * height
        pen.rectangle((left, top, left + side - 1, top + side - 1), fill=_FRAME)
        image = Image.fromarray(tile.pixels)
        size = (image.width * UPSCALING, image.height * UPSCALING)
        corner = (left + (side - size[0]) // 2, top + (side - size[1]) // 2)
        sheet.paste(image.resize(size, Image.Resampling.NEAREST), corner)
        for number, line in enumerate(tile.lines):
            text = _printable(line)
            pen.text((left, top + side + 3 + number * _LINE_HEIGHT), text, fill=_INK, font=font)
    return np.asarray(sheet)


def _printable(line: str) -> str:
    """Short enough for a tile, its end kept, and without letters that the built-in font may lack."""
    text = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in line)
    return text if len(text) <= _LONGEST_LINE else f"...{text[3 - _LONGEST_LINE :]}"
