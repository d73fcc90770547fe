"""Reading image files: first the header, then the pixels, upright and at their own bit depth."""

from __future__ import annotations

import contextlib
import io
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from lmlt_arch.data.images import ALPHA_MODES, PNG_SIGNATURE, ImageError, reason_of, with_true_key
from lmlt_arch.inference.defaults import MAX_PIXELS
from lmlt_arch.inference.images import deep, png, tiff
from lmlt_arch.inference.images.containers import check_jpeg, read_avif, read_bmp
from lmlt_arch.inference.images.details import Details, read_details
from lmlt_arch.inference.images.formats import FORMATS, format_named
from lmlt_arch.inference.images.picture import Picture, Pixels
from lmlt_arch.inference.images.tiff import Layout

_SIGNATURES = 64  # bytes of a file by which its format is recognized
# Formats that Pillow does not read.
_OTHER_KINDS = tuple(
    (kind, re.compile(signature, re.DOTALL))
    for kind, signature in (
        ("HEIC", rb"....ftyp(hei|hev|mif1|msf1)"),
        ("a video", rb"....ftyp(isom|iso\d|mp4|M4V|qt  |avc1|3g|dash)|\x1aE\xdf\xa3|RIFF....AVI "),
        ("JPEG XL", rb"\xff\x0a|....JXL "),
        ("OpenEXR", rb"v/1\x01"),
        ("Radiance HDR", rb"#\?R"),
        ("PDF", rb"%PDF"),
        ("SVG or XML", rb"\s*<(svg|\?xml)"),
        ("HTML", rb"(?i)\s*<(!doctype )?html"),
        ("a raw photograph", rb"FUJIFILM|IIRO|IIU\0|\0MRM|....ftypcrx"),
        ("a ZIP archive", rb"PK\x03\x04"),
    )
)
# What rounding and resizing leave outside of [0, 1]; more is another unit.
_OVERSHOOT = 0.05
# Some kinds of TIFF that Pillow does not open are left to libvips.
_RARE: dict[bool, tuple[type[Exception], ...]] = {True: (UnidentifiedImageError,), False: ()}


@dataclass(frozen=True)
class Header:
    """What the header of an image file says, before its pixels are decoded.

    Attributes:
        height: of the upright image.
        width: likewise.
        format: key of `FORMATS`.
        bits: per channel; 16 also where a TIFF has float.
        orientation: of EXIF, 1 to 8.
        details: the metadata of the file.
        tiff: the layout of a TIFF.
        premultiplied: whether the colors of an AVIF are; Pillow undoes that, libvips does not.
    """

    height: int
    width: int
    format: str
    bits: int
    orientation: int
    details: Details = field(repr=False)
    tiff: Layout | None = field(default=None, repr=False)
    premultiplied: bool = False

    @property
    def deep(self) -> bool:
        """Whether channels have more than 8 bits."""
        return self.bits > 8


def read_header(source: Path | bytes, name: str, *, max_pixels: float = MAX_PIXELS) -> Header:
    """Read the header of an image file.

    Args:
        source: the file, or its content.
        name: what to call it in errors.
        max_pixels: more are refused: a small file may claim to be enormous.

    Raises:
        ImageError: not an image, of an unsupported format, animated, or too large.
    """
    beginning = source[:_SIGNATURES] if isinstance(source, bytes) else _beginning(source)
    with _decoding(name, beginning):
        if beginning.startswith(tiff.SIGNATURES):
            header = _header_of_tiff(tiff.read_layout(source, name))
        else:
            if beginning.startswith(b"\xff\xd8"):
                check_jpeg(source, name)
            with Image.open(_for_pillow(source, beginning)) as image:
                header = _header(image, source, name)
    if header.width * header.height > max_pixels:
        raise ImageError(
            f"{name} has {header.width} x {header.height} pixels, more than the {max_pixels:,.0f} allowed; "
            "if it is to be trusted, raise the limit with --max-pixels"
        )
    return header


def _for_pillow(source: Path | bytes, beginning: bytes) -> Path | io.BytesIO:
    if beginning.startswith(PNG_SIGNATURE):
        return png.for_pillow(source)
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            beginning = file.read(_SIGNATURES)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    if not beginning:
        raise ImageError(f"{path} is empty")
    return beginning


def _header_of_tiff(layout: Layout) -> Header:
    height, width = layout.height, layout.width
    if layout.orientation >= 5:
        height, width = width, height
    bits = 16 if layout.deep else 8
    return Header(height, width, "tiff", bits, layout.orientation, layout.details, layout)


def _header(image: Image.Image, source: Path | bytes, name: str) -> Header:
    known = format_named(image.format)
    if known is None:
        raise ImageError(f"{name} is {image.format}: convert it to one of {', '.join(FORMATS)} first")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise ImageError(f"{name} has {getattr(image, 'n_frames', 1)} frames: split it into single images")
    container = None
    if known == "png":
        container = png.read_png(source, name)
    elif known == "avif":
        container = read_avif(source, name)
    elif known == "bmp":
        container = read_bmp(source)
    details, orientation = read_details(image, container)
    width, height = image.size
    if orientation >= 5:
        height, width = width, height
    bits, premultiplied = (container.bits, container.premultiplied) if container else (8, False)
    return Header(height, width, known, bits, orientation, details, premultiplied=premultiplied)


def decode_picture(data: bytes, name: str, *, max_pixels: float = MAX_PIXELS) -> Picture:
    """Decode an image file.

    Palettes are expanded, CMYK becomes sRGB, the EXIF orientation is applied. Channels keep their depth.

    Args:
        data: the file's content.
        name: what to call it in errors.
        max_pixels: see `read_header`.

    Raises:
        ImageError: the file cannot be used; the message says why.
    """
    header = read_header(data, name, max_pixels=max_pixels)
    details = header.details
    pixels, upright = None, header.format == "tiff"  # Pillow turns these itself
    if header.format == "png" and not header.deep:
        png.check_pixels(data, name)
    if header.tiff is not None:
        tiff.check_deflated(data, name)
    if not header.deep:
        with (
            _decoding(name, data),
            contextlib.suppress(*_RARE[header.tiff is not None]),
            Image.open(_for_pillow(data, data)) as image,
        ):
            if image.mode in ("CMYK", "LAB"):
                details = replace(details, icc=None)
            pixels = _channels(_srgb(image) if image.mode == "CMYK" else image)
    if pixels is None:
        pixels = deep.decode(
            data, name, layout=header.tiff, bits=header.bits, premultiplied=header.premultiplied
        )
        upright = header.format == "avif"
    if not upright:
        pixels = _upright(pixels, header.orientation)
    if pixels.dtype == np.float32:
        details = details.noting(*check_range(float(pixels.min()), float(pixels.max()), name))
    picture = Picture(pixels, details=details, format=header.format, bits=header.bits)
    return picture.with_pixels(np.clip(pixels, 0, 1) if pixels.dtype == np.float32 else pixels)


def check_range(low: float, high: float, name: str) -> list[str]:
    """Check the range of float values, of which black is 0 and white 1.

    Returns:
        Notes for the report, at most one.

    Raises:
        ImageError: the values are not finite, or far outside of [0, 1].
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError(f"{name} has values that are not finite")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ImageError(
            f"{name} has values from {low:.6g} to {high:.6g}: black must be 0 and white 1, so scale them to "
            "that range, or convert it to 16 bits, first"
        )
    if low < 0 or high > 1:
        return [f"its values from {low:.6g} to {high:.6g} are clipped to 0..1"]
    return []


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error


class _decoding:
    """Turn what decoders raise for damaged data, which is nearly anything, into an `ImageError`."""

    def __init__(self, name: str, beginning: bytes) -> None:
        self._name, self._beginning = name, beginning

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UnidentifiedImageError):
            for known, signature in _OTHER_KINDS:
                if signature.match(self._beginning):
                    raise ImageError(
                        f"{self._name} is {known}: convert it to one of {', '.join(FORMATS)} first"
                    ) from error
            raise ImageError(f"{self._name} is not an image, or a damaged one") from error
        if isinstance(error, Image.DecompressionBombError):
            raise ImageError(f"{self._name}: {error} The limit is PIL.Image.MAX_IMAGE_PIXELS.") from error
        if isinstance(error, Exception) and not isinstance(error, (ImageError, MemoryError)):
            reason = reason_of(error)
            if re.search(r"(?i)unsupported|not supported|unknown", reason):
                raise ImageError(f"{self._name} is of a kind that is not supported here: {reason}") from error
            raise ImageError(f"{self._name} is damaged: {reason}") from error


def _channels(image: Image.Image) -> Pixels:
    """Pixels (H, W, 1 to 4), 8 bits."""
    transparent = image.mode in ALPHA_MODES or "transparency" in image.info
    gray = image.mode in ("1", "L", "LA")
    mode = ("LA" if gray else "RGBA") if transparent else ("L" if gray else "RGB")
    pixels = np.asarray(with_true_key(image).convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    # A profile may be damaged, or of another color model.
    with contextlib.suppress(ImageCms.PyCMSError, OSError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert converted is not None  # it is not done in place
        return converted
    return image.convert("RGB")


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
