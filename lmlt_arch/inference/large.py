"""Enlarging files whose result does not fit into memory, row by row of tiles, through files on the disk.

libvips decodes the input and encodes the output as streams. In between, raw pixels lie in a temporary folder
beside the output. What is in memory is a row of tiles: about `24 W t s^2` bytes for an input W wide, tiles of
t and scale s, besides what the network takes for one batch of tiles.
"""

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lmlt_arch.data.images import ImageError
from lmlt_arch.files import OutputError, make_folder, output_error
from lmlt_arch.inference import deep_images
from lmlt_arch.inference.alpha import fill_transparent
from lmlt_arch.inference.pictures import DEPTHS, Encoding, Format, Header, depth_for, read_header
from lmlt_arch.inference.tiles import Progress
from lmlt_arch.inference.upscaler import Upscaler, from_pixels, split, to_pixels

Size = tuple[int, int]
Part = Callable[[Tensor], Tensor]
"""Takes some of the channels of (C, H, W)."""

_TYPES = {8: "uchar", 16: "ushort", 32: "float"}
_DEPTHS = {name: depth for depth, name in _TYPES.items()}


def enlarge_large(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    *,
    after: Size,
    format: Format,
    encoding: Encoding,
    progress: Callable[[float], object] = lambda part: None,
) -> None:
    """Enlarge a file into a file.

    Args:
        source: the input.
        target: the output; appears when it is whole.
        upscaler: enlarges; its tiles bound the memory.
        after: height and width of the output.
        format: of the output.
        encoding: its depth and quality.
        progress: is told what part has been done.

    Raises:
        ImageError: the input is damaged or of a kind that only works in memory, or pyvips is not installed.
        OutputError: the disk is full, or the folder cannot be written.
    """
    pyvips = deep_images.vips(f"{source} is too large for the memory; enlarging it in rows")
    make_folder(target.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
            folder = Path(name)
            header = read_header(source, str(source), max_pixels=math.inf)
            lq = _decoded(pyvips, source, folder / "lq")
            if lq.has_alpha and (encoding.background is not None or not format.alpha):
                # libvips would put black under it, whatever was asked for.
                raise ImageError(
                    f"{source} is transparent and too large for the memory: choose --format png or tiff, "
                    "without --background"
                )
            depth = depth_for(format, encoding.depth, lq.depth)
            native = upscaler.made((lq.height, lq.width), after)
            # Rounded once, at the end.
            between = depth if after == native else 32
            _check_room(target, lq.bands * native[0] * native[1] * between // 8)
            passes = lq.height * lq.width * (2 if lq.has_alpha else 1)

            def part(pixels: int) -> None:
                progress(pixels / passes)

            result = _enlarged(_colors, lq, upscaler, folder / "colors", native, between, part).image(pyvips)
            if lq.has_alpha:
                alpha = _enlarged(_alpha, lq, upscaler, folder / "alpha", native, between, part)
                result = result.bandjoin(alpha.image(pyvips))
            whole = folder / f"whole{format.suffix}"
            _encode(_resized(result, native, after, depth), header, whole, format, encoding.quality)
            whole.replace(target)
    except pyvips.Error as error:
        raise ImageError(f"{source}: {' '.join(str(error.detail).split())}") from error
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
        """The same as an image of libvips."""
        return pyvips.Image.rawload(
            str(self.path), self.width, self.height, self.bands, format=_TYPES[self.depth]
        )

    def reader(self) -> Callable[[slice, slice], NDArray[Any]]:
        """Gives rows and columns; remembers the rows, since neighbours in them are read one by one."""
        dtype = np.dtype(DEPTHS[self.depth])
        last: dict[tuple[int, int], NDArray[Any]] = {}

        def read(y: slice, x: slice) -> NDArray[Any]:
            if (y.start, y.stop) not in last:
                last.clear()
                row = self.width * self.bands
                count = (y.stop - y.start) * row
                values = np.fromfile(self.path, dtype, count, offset=y.start * row * dtype.itemsize)
                last[y.start, y.stop] = values.reshape(-1, self.width, self.bands)
            return last[y.start, y.stop][:, x]

        return read


def _colors(pixels: Tensor) -> Tensor:
    """The colours; those that nobody sees are replaced."""
    color, alpha = split(pixels)
    return color if alpha is None else fill_transparent(color, alpha)


def _alpha(pixels: Tensor) -> Tensor:
    return pixels[-1:]


def _decoded(pyvips: Any, source: Path, target: Path) -> _Raw:
    """The pixels of an image, upright."""
    try:
        image = pyvips.Image.new_from_file(str(source), access="sequential", fail_on="truncated")
        if "orientation" in image.get_fields() and image.get("orientation") != 1:
            image = pyvips.Image.new_from_file(str(source), fail_on="truncated").autorot()
        if image.format not in _DEPTHS or image.bands > 4 or image.interpretation == "cmyk":
            raise ImageError(
                f"{source}: {image.bands} channels of type {image.format} ({image.interpretation}) are too "
                "large for the memory; convert it to RGB with 8 or 16 bits first"
            )
        image.rawsave(str(target))
    except pyvips.Error as error:
        raise ImageError(f"{source} is damaged: {' '.join(str(error.detail).split())}") from error
    return _Raw(target, image.height, image.width, image.bands, _DEPTHS[image.format])


def _enlarged(
    part: Part, lq: _Raw, upscaler: Upscaler, target: Path, size: Size, depth: int, progress: Progress
) -> _Raw:
    """Enlarge one part of the channels into a file."""
    stored = lq.reader()
    bands = 0

    def read(y: slice, x: slice) -> Tensor:
        nonlocal bands
        planes = part(from_pixels(stored(y, x)))
        bands = len(planes)
        return planes.expand(1, 3, -1, -1)

    with target.open("wb") as file:
        for rows in upscaler.bands(read, lq.height, lq.width, progress, size=size):
            planes = rows[0].cpu().clamp(0, 1)
            gray = planes.mean(0, keepdim=True) if bands == 1 else planes
            file.write(to_pixels(gray, DEPTHS[depth]).data)
    return _Raw(target, *size, bands, depth)


def _check_room(target: Path, pixels: int) -> None:
    """Refuse before hours of work what the disk has no room for."""
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


def _encode(result: Any, header: Header, target: Path, format: Format, quality: int) -> None:
    result = deep_images.described(result, icc=header.icc, exif=header.exif, dpi=header.dpi)
    known: dict[str, dict[str, Any]] = {
        "PNG": {},
        "TIFF": {"compression": "deflate", "bigtiff": True},
        "JPEG": {"Q": quality, "subsample_mode": "off"},
        "WEBP": {"Q": quality, "lossless": quality == 100},
        "AVIF": {"Q": quality, "subsample_mode": "off"},
    }
    if format.name not in known:
        raise ImageError(f"{target.name} is too large for the memory: choose --format png or tiff")
    result.write_to_file(str(target), **known[format.name])
