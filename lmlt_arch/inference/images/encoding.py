"""Writing images: fitting them to a format, and encoding them with their metadata."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lmlt_arch.data.images import ImageError
from lmlt_arch.errors import UsageError
from lmlt_arch.inference.defaults import QUALITY
from lmlt_arch.inference.images import deep
from lmlt_arch.inference.images.details import Details, fit_details
from lmlt_arch.inference.images.formats import FORMATS, Format
from lmlt_arch.inference.images.picture import Picture
from lmlt_arch.inference.images.png import XMP_KEYWORD
from lmlt_arch.inference.images.tiff import add_tags


@dataclass(frozen=True)
class Encoding:
    """How images are written.

    Attributes:
        format: key of `FORMATS`; None keeps that of the input.
        depth: bits per channel, 8, 16 or 32 (float); None keeps as many as the format holds.
        quality: of JPEG, WebP and AVIF, 1 to 100; WebP at 100 is lossless.
        background: RGB in 0..255 to put under transparent images; None keeps them transparent.

    Raises:
        UsageError: a value that no image can have.
    """

    format: str | None = None
    depth: int | None = None
    quality: int = QUALITY
    background: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise UsageError(f"format must be one of {', '.join(FORMATS)}, not {self.format!r}")
        if self.depth not in (None, 8, 16, 32):
            raise UsageError(f"depth must be 8, 16 or 32, not {self.depth!r}")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality must lie in 1..100, not {self.quality}")


def prepared(picture: Picture, chosen: Format, encoding: Encoding, name: str) -> Picture:
    """Composite a picture on the background, if one is given, and drop an alpha channel that is opaque.

    Raises:
        ImageError: the format cannot hold it.
    """
    if encoding.background is not None:
        picture = picture.on_background(encoding.background)
    if picture.alpha is not None and not chosen.alpha and picture.is_opaque():
        picture = replace(picture, alpha=None)
    if picture.alpha is not None and not chosen.alpha:
        raise ImageError(
            f"{name} is transparent, which {chosen.name} cannot hold: choose another --format, or a "
            "--background"
        )
    return picture


def encode_picture(
    picture: Picture, chosen: Format, quality: int = QUALITY, details: Details | None = None
) -> bytes:
    """Encode a picture that has passed `prepared`, at the depth that it has.

    Args:
        picture: what to encode.
        chosen: the format.
        quality: see `Encoding`.
        details: what `details_for` returns for these, if it is known already.

    Raises:
        ImageError: what it needs is not installed.
    """
    pixels, details = picture.pixels(), details or details_for(picture, chosen)
    if picture.depth > 8:
        bits = deep.stored_bits(pixels.dtype, picture.bits)
        return deep.encode(pixels, chosen, details, bits=bits, quality=quality)
    known: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "AVIF": {"quality": quality, "subsampling": "4:4:4"},
        "WEBP": {"quality": quality, "lossless": quality == 100, "exact": True},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    buffer = io.BytesIO()
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, chosen.name, **known.get(chosen.name, {}), **_arguments_of(details, chosen.name))
    if chosen.name == "TIFF":
        add_tags(buffer, exif=details.exif, xmp=details.xmp, resolution=details.dpi is not None)
    return buffer.getvalue()


def details_for(picture: Picture, chosen: Format) -> Details:
    """The metadata of a picture that a format can hold; its notes name what is left out."""
    return fit_details(picture.details, chosen, size=picture.size, gray=picture.color.shape[-1] == 1)


def _arguments_of(details: Details, chosen: str) -> dict[str, Any]:
    """Arguments for Pillow's `save`; EXIF and XMP of a TIFF are added by `add_tags`."""
    given: dict[str, Any] = {"icc_profile": details.icc, "dpi": details.dpi}
    if chosen == "BMP":
        given["dpi"] = details.dpi or (0, 0)  # Pillow would say 96
    if chosen != "TIFF":
        given["exif"] = details.exif
    if chosen == "PNG":
        given["pnginfo"] = _chunks(details)
    elif chosen != "TIFF":
        given["xmp"] = details.xmp
    if chosen == "JPEG" and details.texts:
        given["comment"] = details.texts[0][1].encode()
    return {key: value for key, value in given.items() if value is not None}


def _chunks(details: Details) -> PngInfo:
    info = PngInfo()
    if details.xmp:
        info.add_itxt(XMP_KEYWORD, details.xmp.decode("utf-8", "replace"))
    for keyword, text in details.texts:
        info.add_itxt(keyword, text)
    return info
