"""Image files with everything that belongs to them: bit depth, transparency, profile, EXIF, resolution."""

from __future__ import annotations

import contextlib
import io
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from lmlt_arch.data.images import ALPHA_MODES, PNG_SIGNATURE, ImageError, reason_of, with_true_key
from lmlt_arch.inference.images import deep, png, tiff
from lmlt_arch.inference.images.containers import check_jpeg, describe_avif, describe_bmp
from lmlt_arch.inference.images.details import Details, for_pillow, held, read_details
from lmlt_arch.inference.images.tiff import Layout
from lmlt_arch.inference.images.tiff_tags import add_tags

Pixels = NDArray[Any]
"""uint8, uint16, or float32 in [0, 1]."""

_SIGNATURES = 64  # bytes of a file that tell what it is
# Kinds that Pillow does not know.
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
# Pillow does not know each kind of TIFF.
_RARE: dict[bool, tuple[type[Exception], ...]] = {True: (UnidentifiedImageError,), False: ()}

DEFAULT_MAX_PIXELS = 2**28
DEFAULT_QUALITY = 95


@dataclass(frozen=True)
class Format:
    """What a file format can hold.

    Attributes:
        name: Pillow's name.
        suffix: of new files.
        depths: bits per channel; 32 is float, and 16 of an AVIF are stored as 10 or 12.
        alpha: whether it holds transparency.
        largest: longest side in pixels.
    """

    name: str
    suffix: str
    depths: tuple[int, ...]
    alpha: bool
    largest: float = math.inf


DEPTHS = {8: np.uint8, 16: np.uint16, 32: np.float32}
"""Bits per channel and their types."""

FORMATS = {
    "png": Format("PNG", ".png", (8, 16), alpha=True),
    "jpg": Format("JPEG", ".jpg", (8,), alpha=False, largest=65500),
    "webp": Format("WEBP", ".webp", (8,), alpha=True, largest=16383),
    "tiff": Format("TIFF", ".tif", (8, 16, 32), alpha=True),
    "bmp": Format("BMP", ".bmp", (8,), alpha=False),
    "avif": Format("AVIF", ".avif", (8, 16), alpha=True, largest=65536),
}
_BY_SUFFIX = {
    **{entry.suffix: name for name, entry in FORMATS.items()},
    ".jpeg": "jpg",
    ".jpe": "jpg",
    ".jfif": "jpg",
    ".tiff": "tiff",
}
_BY_NAME = {entry.name: name for name, entry in FORMATS.items()} | {"MPO": "jpg"}
SUFFIXES = frozenset(_BY_SUFFIX)
"""Of files that are read and written."""


@dataclass(frozen=True)
class Picture:
    """A decoded image, upright.

    Attributes:
        color: (H, W, 3) RGB or (H, W, 1) gray.
        alpha: (H, W), 0 is transparent; the same type as `color`.
        details: what belongs to it besides its pixels.
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
    def size(self) -> tuple[int, int]:
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


@dataclass(frozen=True)
class Encoding:
    """How images are written.

    Attributes:
        format: key of `FORMATS`; None keeps that of the input.
        depth: bits per channel, 8, 16 or 32 (float); None keeps as many as the format holds.
        quality: of JPEG, WebP and AVIF, 1 to 100; WebP at 100 is lossless.
        background: RGB in 0..255 to put under transparent images; None keeps them transparent.
    """

    format: str | None = None
    depth: int | None = None
    quality: int = DEFAULT_QUALITY
    background: tuple[int, int, int] | None = None


def format_of(path: Path) -> str | None:
    """The format that a file's name tells, if it is one of `FORMATS`."""
    return _BY_SUFFIX.get(path.suffix.lower())


@dataclass(frozen=True)
class Header:
    """What is known of an image before its pixels are decoded.

    Attributes:
        height: of the upright image.
        width: likewise.
        format: key of `FORMATS`.
        bits: per channel; 16 also where a TIFF has float.
        orientation: of EXIF, 1 to 8.
        details: what belongs to it besides its pixels.
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


def read_header(source: Path | bytes, name: str, *, max_pixels: float = DEFAULT_MAX_PIXELS) -> Header:
    """Read what comes before the pixels.

    Args:
        source: a file, or its content.
        name: what to call it in errors.
        max_pixels: more are refused: a small file may claim to be enormous.

    Raises:
        ImageError: not an image, of a format that is not known, animated, or too large.
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
    known = _BY_NAME.get(image.format or "")
    if known is None:
        raise ImageError(f"{name} is {image.format}: convert it to one of {', '.join(FORMATS)} first")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise ImageError(f"{name} has {getattr(image, 'n_frames', 1)} frames: split it into single images")
    described = None
    if known == "png":
        described = png.describe_png(source, name)
    elif known == "avif":
        described = describe_avif(source, name)
    elif known == "bmp":
        described = describe_bmp(source)
    details, orientation = read_details(image, described)
    width, height = image.size
    if orientation >= 5:
        height, width = width, height
    bits, premultiplied = (described.bits, described.premultiplied) if described else (8, False)
    return Header(height, width, known, bits, orientation, details, premultiplied=premultiplied)


def decode_picture(data: bytes, name: str, *, max_pixels: float = DEFAULT_MAX_PIXELS) -> Picture:
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
    """Judge the range of float values, of which black is 0 and white 1.

    Returns:
        What to note.

    Raises:
        ImageError: these are other values.
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


def prepared(picture: Picture, chosen: Format, encoding: Encoding, name: str) -> Picture:
    """A picture as its format can hold it: with a background under it, if that is asked for.

    Raises:
        ImageError: the format cannot hold it.
    """
    if picture.alpha is not None and encoding.background is not None:
        picture = _on_background(picture, encoding.background)
    if picture.alpha is not None and not chosen.alpha and _is_opaque(picture):
        picture = replace(picture, alpha=None)
    if picture.alpha is not None and not chosen.alpha:
        raise ImageError(
            f"{name} is transparent, which {chosen.name} cannot hold: choose another --format, or a "
            "--background"
        )
    return picture


def check_size(size: tuple[int, int], chosen: Format, name: str) -> None:
    """Refuse a result that its format cannot hold.

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
    """What to note where a format holds fewer bits per channel than there are, and nobody asked for fewer."""
    depth = depth_for(chosen, wanted, present)
    if wanted is not None or depth == present:
        return []
    values = "float values" if present == 32 else "16 bits"
    return [f"its {values} become {depth} bits: {chosen.name} holds no more"]


def encode_picture(picture: Picture, chosen: Format, quality: int = DEFAULT_QUALITY) -> bytes:
    """Encode a picture that `prepared` has made fit, at the depth that it has.

    Raises:
        ImageError: what it needs is not installed.
    """
    pixels, details = picture.pixels(), details_for(picture, chosen)
    if picture.depth > 8:
        bits = deep.stored_bits(pixels.dtype, picture.bits)
        return deep.encode(pixels, chosen.name, details, bits=bits, quality=quality)
    known: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "AVIF": {"quality": quality, "subsampling": "4:4:4"},
        "WEBP": {"quality": quality, "lossless": quality == 100, "exact": True},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    buffer = io.BytesIO()
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, chosen.name, **known.get(chosen.name, {}), **for_pillow(details, chosen.name))
    if chosen.name == "TIFF":
        add_tags(buffer, exif=details.exif, xmp=details.xmp, resolution=details.dpi is not None)
    return buffer.getvalue()


def details_for(picture: Picture, chosen: Format) -> Details:
    """What of the details a format can hold; notes tell the rest."""
    return held(picture.details, chosen.name, size=picture.size, gray=picture.color.shape[-1] == 1)


class _decoding:
    """Decoders raise nearly anything when fed with damaged data: all of it becomes an `ImageError`."""

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


def _is_opaque(picture: Picture) -> bool:
    assert picture.alpha is not None
    most = 1 if picture.depth == 32 else np.iinfo(picture.alpha.dtype).max
    return bool(picture.alpha.min() == most)


def _on_background(picture: Picture, background: tuple[int, int, int]) -> Picture:
    assert picture.alpha is not None
    most = 1.0 if picture.depth == 32 else float(np.iinfo(picture.color.dtype).max)
    below = np.array(background, np.float32) / 255 * most
    share = picture.alpha[..., None].astype(np.float32) / most
    mixed = picture.color * share + below * (1 - share)
    if picture.depth < 32:
        mixed = np.rint(mixed)
    return replace(picture, color=mixed.astype(picture.color.dtype), alpha=None)
