"""The image formats that are read and written, and what each of them can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmlt_arch.data.images import ImageError
from lmlt_arch.inference.engine.sizes import Size

_NO_TEXTS = frozenset({"icc", "exif", "xmp"})
_WITH_DPI = _NO_TEXTS | {"dpi"}


@dataclass(frozen=True)
class Format:
    """What a file format can hold.

    Attributes:
        name: Pillow's name.
        suffixes: of its files, the first one of new files.
        depths: bits per channel; 32 is float, and 16 of an AVIF are stored as 10 or 12.
        alpha: whether it holds transparency.
        holds: which metadata it has a place for, by the attributes of `Details`; texts aside.
        largest: longest side in pixels.
        gray: whether it holds gray; the encoders of the others write RGB.
        vips: whether libvips reads and writes it.
    """

    name: str
    suffixes: tuple[str, ...]
    depths: tuple[int, ...]
    alpha: bool
    holds: frozenset[str]
    largest: float = math.inf
    gray: bool = True
    vips: bool = True

    @property
    def suffix(self) -> str:
        """Suffix of new files."""
        return self.suffixes[0]


DEPTHS = {8: np.uint8, 16: np.uint16, 32: np.float32}
"""Bits per channel and their types."""

FORMATS = {
    "png": Format("PNG", (".png",), (8, 16), alpha=True, holds=_WITH_DPI),
    "jpg": Format(
        "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), (8,), alpha=False, holds=_WITH_DPI, largest=65500
    ),
    "webp": Format("WEBP", (".webp",), (8,), alpha=True, holds=_NO_TEXTS, largest=16383, gray=False),
    "tiff": Format("TIFF", (".tif", ".tiff"), (8, 16, 32), alpha=True, holds=_WITH_DPI),
    "bmp": Format("BMP", (".bmp",), (8,), alpha=False, holds=frozenset({"dpi"}), vips=False),
    "avif": Format("AVIF", (".avif",), (8, 16), alpha=True, holds=_NO_TEXTS, largest=65536, gray=False),
}
_BY_SUFFIX = {suffix: key for key, entry in FORMATS.items() for suffix in entry.suffixes}
_BY_NAME = {entry.name: key for key, entry in FORMATS.items()} | {"MPO": "jpg"}
SUFFIXES = frozenset(_BY_SUFFIX)
"""Of files that are read and written."""


def format_of(path: Path) -> str | None:
    """The format of a file by its suffix: a key of `FORMATS`, or None for others."""
    return _BY_SUFFIX.get(path.suffix.lower())


def format_named(name: str | None) -> str | None:
    """The key of `FORMATS` for Pillow's name of a format, or None for others."""
    return _BY_NAME.get(name or "")


def check_size(size: Size, chosen: Format, name: str) -> None:
    """Refuse a result that its format cannot hold.

    Args:
        size: height and width of the result.
        chosen: its format.
        name: what to call the input in errors.

    Raises:
        ImageError: it is too large.
    """
    if max(size) > chosen.largest:
        raise ImageError(
            f"{name} would become {size[1]} x {size[0]} pixels; {chosen.name} holds at most {chosen.largest} "
            "on a side: choose --format png or tiff"
        )


def depth_for(chosen: Format, wanted: int | None, present: int) -> int:
    """Bits per channel to write: as wanted, or as many as present and possible.

    Raises:
        ImageError: the format does not have the depth that is wanted.
    """
    if wanted is None:
        return max(depth for depth in chosen.depths if depth <= present)
    if wanted not in chosen.depths:
        kinds = " or ".join("float" if depth == 32 else f"{depth} bits" for depth in chosen.depths)
        raise ImageError(f"{chosen.name} holds {kinds} per channel: choose another --depth or --format")
    return wanted


def depth_notes(chosen: Format, wanted: int | None, present: int) -> list[str]:
    """The note for a format that reduces the bits per channel without having been asked to."""
    depth = depth_for(chosen, wanted, present)
    if wanted is not None or depth == present:
        return []
    values = "float values" if present == 32 else "16 bits"
    return [f"its {values} become {depth} bits: {chosen.name} holds no more"]
