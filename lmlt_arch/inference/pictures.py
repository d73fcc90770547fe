"""Image files with everything that belongs to them: bit depth, transparency, profile, EXIF, resolution."""

import contextlib
import io
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from lmlt_arch.data.images import ALPHA_MODES, ImageError, has_deep_channels
from lmlt_arch.inference import deep_images

Pixels = NDArray[Any]
"""uint8, uint16, or float32 in [0, 1]."""

_ORIENTATION = 0x0112
_EXIF_IFD, _EXIF_WIDTH, _EXIF_HEIGHT = 0x8769, 0xA002, 0xA003
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_AXIS = {_EXIF_WIDTH: 1, _EXIF_HEIGHT: 0}
# Description, make, model, software, date, artist, copyright: a TIFF keeps these among the tags that say how
# it is laid out, and those belong to the old file.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_SIGNATURES = 64  # bytes of a file that tell what it is
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

DEFAULT_MAX_PIXELS = 2**28
DEFAULT_QUALITY = 95


@dataclass(frozen=True)
class Format:
    """What a file format can hold.

    Attributes:
        name: Pillow's name.
        suffix: of new files.
        depths: bits per channel; 32 is float.
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
    "avif": Format("AVIF", ".avif", (8,), alpha=True, largest=65536),
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
        icc: colour profile.
        exif: EXIF data, without an orientation.
        dpi: horizontal and vertical resolution.
        format: key of `FORMATS`.
    """

    color: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    format: str = "png"

    @property
    def depth(self) -> int:
        """Bits per channel; 32 is float."""
        return self.color.itemsize * 8

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.color.shape[0], self.color.shape[1]

    def pixels(self) -> Pixels:
        """(H, W, 1 to 4): colours, and alpha if there is any."""
        return self.color if self.alpha is None else np.concatenate([self.color, self.alpha[..., None]], -1)

    def with_pixels(self, pixels: Pixels) -> "Picture":
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
    """What is known of an image before its pixels are decoded; sizes are those of the upright image."""

    height: int
    width: int
    format: str
    deep: bool
    orientation: int
    exif: bytes | None = field(repr=False)
    icc: bytes | None = field(repr=False)
    dpi: tuple[float, float] | None = None


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
    with _decoding(name):
        try:
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        except UnidentifiedImageError:
            if beginning.startswith(_TIFF_SIGNATURES):
                return _limited(_header_of_rare_tiff(source, name), name, max_pixels)
            raise
        with image:
            return _limited(_header(image, beginning, name), name, max_pixels)


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            beginning = file.read(_SIGNATURES)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    if not beginning:
        raise ImageError(f"{path} is empty")
    return beginning


def _header_of_rare_tiff(source: Path | bytes, name: str) -> Header:
    height, width, orientation, icc, dpi = deep_images.read_tiff_header(source, name)
    if orientation >= 5:
        height, width = width, height
    return Header(height, width, "tiff", deep=True, orientation=orientation, exif=None, icc=icc, dpi=dpi)


def _limited(header: Header, name: str, max_pixels: float) -> Header:
    if header.width * header.height > max_pixels:
        raise ImageError(
            f"{name} has {header.width} x {header.height} pixels, more than the {max_pixels:,.0f} allowed; "
            "if it is to be trusted, raise the limit with --max-pixels"
        )
    return header


def _header(image: Image.Image, beginning: bytes, name: str) -> Header:
    known = _BY_NAME.get(image.format or "")
    if known is None:
        raise ImageError(f"{name} is {image.format}: convert it to one of {', '.join(FORMATS)} first")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise ImageError(f"{name} has {getattr(image, 'n_frames', 1)} frames: split it into single images")
    exif = _exif_before_pixels(image)
    orientation = exif.pop(_ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    width, height = image.size
    if known == "tiff":
        # Stored ones: releases of Pillow differ in whether those of a TIFF are upright before it is loaded.
        tags = getattr(image, "tag_v2", {})
        width, height = (int(tags[tag]) for tag in (_TIFF_WIDTH, _TIFF_HEIGHT))
        kept = {tag: exif[tag] for tag in _DESCRIPTIVE if tag in exif}
        exif = Image.Exif()
        exif.update(kept)
    if orientation >= 5:
        height, width = width, height
    dpi = image.info.get("dpi")
    return Header(
        height=height,
        width=width,
        format=known,
        deep=has_deep_channels(image, beginning),
        orientation=orientation,
        exif=exif.tobytes() if len(exif) else None,
        icc=image.info.get("icc_profile") or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
    )


def _exif_before_pixels(image: Image.Image) -> Image.Exif:
    exif = Image.Exif()
    # Damaged EXIF data are no reason to refuse the pixels.
    with contextlib.suppress(Exception):
        if image.format != "PNG":
            return image.getexif()
        # Pillow would decode all of the image to look behind it too.
        exif.load(image.info.get("exif", b""))
    return exif


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
    icc = header.icc
    if header.deep:
        pixels = deep_images.decode(data, name)
    else:
        with _decoding(name), Image.open(io.BytesIO(data)) as image:
            if image.mode in ("CMYK", "LAB"):
                icc = None
            pixels = _channels(_srgb(image) if image.mode == "CMYK" else image)
    # Pillow turns a TIFF itself.
    if header.deep or header.format != "tiff":
        pixels = _upright(pixels, header.orientation)
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise ImageError(f"{name} has values that are not finite")
    details = Picture(pixels, icc=icc, exif=header.exif, dpi=header.dpi, format=header.format)
    return details.with_pixels(pixels)


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


def encode_picture(picture: Picture, chosen: Format, quality: int = DEFAULT_QUALITY) -> bytes:
    """Encode a picture that `prepared` has made fit, at the depth that it has."""
    pixels = picture.pixels()
    exif = _exif_for(picture)
    if picture.depth > 8:
        return deep_images.encode(pixels, chosen.name, icc=picture.icc, exif=exif, dpi=picture.dpi)
    icc = picture.icc
    if pixels.shape[-1] < 3 and chosen.name in ("WEBP", "AVIF") and icc and icc[16:20] == b"GRAY":
        icc = None  # they hold no gray
    details: dict[str, Any] = {"icc_profile": icc, "exif": exif, "dpi": picture.dpi}
    if chosen.name == "JPEG":
        details |= {"quality": quality, "subsampling": 0}
    elif chosen.name == "AVIF":
        details |= {"quality": quality, "subsampling": "4:4:4"}
    elif chosen.name == "WEBP":
        details |= {"quality": quality, "lossless": quality == 100, "exact": True}
    elif chosen.name == "TIFF":
        details |= {"compression": "tiff_adobe_deflate", "exif": None, "tiffinfo": _descriptive(picture)}
    buffer = io.BytesIO()
    given = {key: value for key, value in details.items() if value is not None}
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(
        buffer, chosen.name, **given
    )
    return buffer.getvalue()


class _decoding:
    """Decoders raise nearly anything when fed with damaged data: all of it becomes an `ImageError`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UnidentifiedImageError):
            raise ImageError(f"{self._name} is not an image, or a damaged one") from error
        if isinstance(error, Image.DecompressionBombError):
            raise ImageError(f"{self._name}: {error} The limit is PIL.Image.MAX_IMAGE_PIXELS.") from error
        if isinstance(error, Exception) and not isinstance(error, ImageError):
            raise ImageError(f"{self._name} is damaged: {' '.join(str(error).split())}") from error


def _channels(image: Image.Image) -> Pixels:
    """Pixels (H, W, 1 to 4), 8 bits."""
    transparent = image.mode in ALPHA_MODES or "transparency" in image.info
    gray = image.mode in ("1", "L", "LA")
    mode = ("LA" if gray else "RGBA") if transparent else ("L" if gray else "RGB")
    pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    # A profile may be damaged, or of another colour model.
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


def _on_background(picture: Picture, background: tuple[int, int, int]) -> Picture:
    assert picture.alpha is not None
    most = 1.0 if picture.depth == 32 else float(np.iinfo(picture.color.dtype).max)
    below = np.array(background, np.float32) / 255 * most
    share = picture.alpha[..., None].astype(np.float32) / most
    mixed = picture.color * share + below * (1 - share)
    if picture.depth < 32:
        mixed = np.rint(mixed)
    return replace(picture, color=mixed.astype(picture.color.dtype), alpha=None)


def _descriptive(picture: Picture) -> dict[int, Any]:
    exif = Image.Exif()
    exif.load(picture.exif or b"")
    return {tag: exif[tag] for tag in _DESCRIPTIVE if tag in exif}


def _exif_for(picture: Picture) -> bytes | None:
    """EXIF data, in which the size of the image is that of this one."""
    if picture.exif is None:
        return None
    exif = Image.Exif()
    exif.load(picture.exif)
    inner = exif.get_ifd(_EXIF_IFD)
    for tag, axis in _AXIS.items():
        if tag in inner:
            inner[tag] = picture.size[axis]
    return exif.tobytes()
