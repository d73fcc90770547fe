"""Upscaling of files whose result does not fit into memory, row by row of tiles, through files on the disk.

libvips decodes the input and encodes the output as streams. In between, raw pixels lie in a temporary folder
beside the output. One row of tiles is in memory at a time: about `24 W t s^2` bytes for an input W wide,
tiles of t and scale s, besides what the network needs for one batch of tiles.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lmlt_arch.data.images import ImageError
from lmlt_arch.files import OutputError, make_folder, output_error, scratch
from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.images import deep, tiff
from lmlt_arch.inference.images.alpha import fill_transparent
from lmlt_arch.inference.images.decoding import Header, check_range, read_header
from lmlt_arch.inference.images.details import Details, fit_details
from lmlt_arch.inference.images.encoding import Encoding
from lmlt_arch.inference.images.formats import DEPTHS, FORMATS, Format, depth_for, depth_notes
from lmlt_arch.inference.upscaler import Upscaler, far_outside, from_pixels, range_of, split, to_pixels

Part = Callable[[Tensor], Tensor]
"""Selects some of the channels of (C, H, W)."""

_TYPES = {8: "uchar", 16: "ushort", 32: "float"}
_ROWS = 16  # rows of the result that are rounded at a time
_TOGETHER = 2**24  # bytes of rows that are read at a time
_DEPTHS = {name: depth for depth, name in _TYPES.items()}


def upscale_large(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    *,
    after: Size,
    format: Format,
    encoding: Encoding,
    progress: Callable[[float], object] = lambda part: None,
) -> tuple[str, ...]:
    """Upscale a file into a file.

    Args:
        source: the input.
        target: the output; appears when it is whole.
        upscaler: upscales; its tiles bound the memory.
        after: height and width of the output.
        format: of the output.
        encoding: its depth and quality.
        progress: called with the share of the work that was done since the last call.

    Returns:
        Notes for the report, see `Result.notes`.

    Raises:
        ImageError: the input is damaged or of a kind that only works in memory, or pyvips is not installed.
        OutputError: the disk is full, or the folder cannot be written.
    """
    pyvips = deep.vips(f"{source} is too large for the memory; upscaling it in rows")
    make_folder(target.parent)
    try:
        with scratch(target) as folder:
            header = read_header(source, str(source), max_pixels=math.inf)
            _check_formats(header, format, source)
            lq, notes = _read(pyvips, source, header, folder, format, encoding)
            depth = depth_for(format, encoding.depth, lq.depth)
            native = upscaler.made((lq.height, lq.width), after)
            # Rounded once, at the end.
            between = depth if after == native else 32
            _check_room(target, lq.bands * native[0] * native[1] * between // 8)
            work = _Work(upscaler, lq, folder, native, between, progress)
            result = _resized(work.result(pyvips), native, after, depth)
            details = fit_details(header.details, format, size=after, gray=lq.bands < 3, comment=False)
            whole = folder / f"whole{format.suffix}"
            with deep.vips_errors(pyvips, f"the result for {source}"):
                _encode(result, details, whole, format, encoding.quality, header.bits)
            whole.replace(target)
            notes += depth_notes(format, encoding.depth, lq.depth)
            return (*details.notes, *notes, *work.notes())
    except OSError as error:
        raise output_error(target, error) from error


@dataclass(frozen=True)
class _Raw:
    """Pixels in a file, row after row."""

    path: Path
    height: int
    width: int
    bands: int
    depth: int

    @property
    def has_alpha(self) -> bool:
        return self.bands in (2, 4)

    def image(self, pyvips: Any) -> Any:
        """The pixels as an image of libvips."""
        return pyvips.Image.rawload(
            str(self.path), self.width, self.height, self.bands, format=_TYPES[self.depth]
        )

    def rows(self) -> Iterator[NDArray[Any]]:
        """All pixels, (h, W, bands) at a time."""
        most = max(1, _TOGETHER // (self.width * self.bands * self.depth // 8))
        for start in range(0, self.height, most):
            yield self._stored(start, min(start + most, self.height))

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        dtype, row = np.dtype(DEPTHS[self.depth]), self.width * self.bands
        values = np.fromfile(self.path, dtype, (stop - start) * row, offset=start * row * dtype.itemsize)
        return values.reshape(-1, self.width, self.bands)

    def check_range(self, source: Path) -> list[str]:
        """See `decoding.check_range`."""
        if self.depth < 32:
            return []
        ranges = [(rows.min(), rows.max()) for rows in self.rows()]
        # NaN stays NaN.
        return check_range(float(np.min(ranges)), float(np.max(ranges)), str(source))

    def even_alpha(self) -> float | None:
        """The transparency, 0 to 1, if all pixels have the same one."""
        most = 1 if self.depth == 32 else 2**self.depth - 1
        ranges = (
            [(rows[..., -1].min(), rows[..., -1].max()) for rows in self.rows()] if self.has_alpha else []
        )
        low, high = (np.min(ranges), np.max(ranges)) if ranges else (0, 1)
        return float(low) / most if low == high else None

    def without_alpha(self, pyvips: Any, target: Path) -> _Raw:
        """The colors alone, in another file."""
        self.image(pyvips).extract_band(0, n=self.bands - 1).rawsave(str(target))
        return replace(self, path=target, bands=self.bands - 1)

    def reader(self) -> Callable[[slice, slice], NDArray[Any]]:
        """A function that returns some rows and columns; it keeps the last rows for their other columns."""
        last: dict[tuple[int, int], NDArray[Any]] = {}

        def read(y: slice, x: slice) -> NDArray[Any]:
            if (y.start, y.stop) not in last:
                last.clear()
                last[y.start, y.stop] = self._stored(y.start, y.stop)
            return last[y.start, y.stop][:, x]

        return read


def _check_formats(header: Header, format: Format, source: Path) -> None:
    """Refuse formats that libvips lacks, before hours of work."""
    if not FORMATS[header.format].vips:
        raise ImageError(
            f"{source} is too large for the memory, where alone {header.format} can be read: convert it to "
            "png or tiff first"
        )
    if not format.vips:
        raise ImageError(
            f"{source} is too large for the memory, where alone {format.name} can be written: choose "
            "--format png or tiff"
        )


def _colors(pixels: Tensor) -> Tensor:
    """The colors; those of fully transparent pixels are replaced."""
    color, alpha = split(pixels)
    return color if alpha is None else fill_transparent(color, alpha)


def _alpha(pixels: Tensor) -> Tensor:
    return pixels[-1:]


def _read(
    pyvips: Any, source: Path, header: Header, folder: Path, format: Format, encoding: Encoding
) -> tuple[_Raw, list[str]]:
    """The pixels of an image, upright, and notes on them.

    Raises:
        ImageError: it cannot be used, or the format cannot hold it.
    """
    if header.tiff is not None:
        tiff.check_deflated(source, str(source))
    with deep.DECODING, deep.vips_errors(pyvips, str(source)):
        image = deep.open_file(source, header.tiff, bits=header.bits, premultiplied=header.premultiplied)
        image.rawsave(str(folder / "lq"))
    lq = _Raw(folder / "lq", image.height, image.width, image.bands, _DEPTHS[image.format])
    notes = lq.check_range(source)
    if not format.alpha and lq.even_alpha() == 1:
        lq = lq.without_alpha(pyvips, folder / "opaque")
    if lq.has_alpha and (encoding.background is not None or not format.alpha):
        # libvips would composite it on black.
        raise ImageError(
            f"{source} is transparent and too large for the memory: choose --format png or tiff, without "
            "--background"
        )
    return lq, notes


class _Work:
    """Upscales the parts of an image, each into a file.

    Args:
        upscaler: upscales.
        lq: the image.
        folder: for the files.
        size: height and width of the result.
        depth: its bits per channel; 32 is float.
        progress: called with the share of the work that was done since the last call.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        lq: _Raw,
        folder: Path,
        size: Size,
        depth: int,
        progress: Callable[[float], object],
    ) -> None:
        self._upscaler, self._lq, self._folder = upscaler, lq, folder
        self._size, self._depth, self._progress = size, depth, progress
        self._low, self._high = 0.0, 1.0
        self._range = 0.0, 1.0
        # Transparency that is the same everywhere needs no network.
        self._even = lq.even_alpha()

    def result(self, pyvips: Any) -> Any:
        """The result, as an image of libvips."""
        colors = self._upscaled("colors", _colors).image(pyvips)
        # Of the colors only: the network may overshoot at edges of transparency.
        self._range = self._low, self._high
        if not self._lq.has_alpha:
            return colors
        if self._even is not None:
            most = 1 if self._depth == 32 else 2**self._depth - 1
            return colors.bandjoin(round(self._even * most) if most > 1 else self._even)
        return colors.bandjoin(self._upscaled("alpha", _alpha).image(pyvips))

    def notes(self) -> list[str]:
        """A note if the network returned values far outside of [0, 1]."""
        excess = far_outside(*self._range)
        return [excess] if excess else []

    def _upscaled(self, name: str, part: Part) -> _Raw:
        lq, bands = self._lq, 0
        stored = lq.reader()
        passes = lq.height * lq.width * (2 if lq.has_alpha and self._even is None else 1)

        def read(y: slice, x: slice) -> Tensor:
            nonlocal bands
            planes = part(from_pixels(stored(y, x)))
            bands = len(planes)
            return planes.expand(1, 3, -1, -1)

        def progress(pixels: int) -> None:
            self._progress(pixels / passes)

        target = self._folder / name
        with target.open("wb") as file:
            for rows in self._upscaler.bands(read, lq.height, lq.width, progress, size=self._size):
                # A few at a time: they are copied more than once on their way.
                for some in rows.split(_ROWS, -2):
                    low, high = range_of(some)
                    self._low, self._high = min(self._low, low), max(self._high, high)
                    planes = some[0].cpu().clamp(0, 1)
                    gray = planes.mean(0, keepdim=True) if bands == 1 else planes
                    file.write(to_pixels(gray, DEPTHS[self._depth]).data)
                del rows, some  # before the next ones are made
        return _Raw(target, *self._size, bands, self._depth)


def _check_room(target: Path, pixels: int) -> None:
    """Refuse a result that the disk has no room for, before hours of work."""
    free = shutil.disk_usage(target.parent).free
    if free < 2 * pixels:
        raise OutputError(
            f"cannot write {target}: up to {2 * pixels / 2**30:.1f} GiB of disk space are needed "
            f"to make it, and {free / 2**30:.1f} GiB are free"
        )


def _resized(image: Any, native: Size, after: Size, depth: int) -> Any:
    if native == after:
        return image
    resized = image.resize(after[1] / native[1], vscale=after[0] / native[0], kernel="cubic")
    if depth == 32:
        return resized
    most = 2**depth - 1
    return (resized * most).rint().cast(_TYPES[depth])


def _encode(result: Any, details: Details, target: Path, format: Format, quality: int, bits: int) -> None:
    dtype = np.dtype(deep.TYPES[result.format])
    options = deep.save_options(format, details, dtype, quality, deep.stored_bits(dtype, bits))
    if format.name == "TIFF":
        options |= {"bigtiff": True, "predictor": "none"}
    deep.with_details(result, details).write_to_file(str(target), **options)
    with target.open("r+b") as file:
        deep.correct_metadata(file, format, details)
