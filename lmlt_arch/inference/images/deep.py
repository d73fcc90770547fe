"""Decoding and encoding by libvips: more than 8 bits per channel, which Pillow cannot read in color."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.images import ImageError
from lmlt_arch.errors import MissingPackageError, pip_install
from lmlt_arch.inference.images.containers import remove_jpeg_resolution
from lmlt_arch.inference.images.details import Details
from lmlt_arch.inference.images.formats import Format
from lmlt_arch.inference.images.png import add_texts, remove_resolution
from lmlt_arch.inference.images.tiff import Layout, add_tags

_MM_PER_INCH = 25.4
TYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
"""Types of values by libvips' names."""
_EVERYTHING, _EXIF = 31, 1  # VipsForeignKeep
# Otherwise pixels behind the end of a file become black.
_STRICT = {"access": "sequential", "fail_on": "error"}
WRITING = "Writing more than 8 bits per channel"
"""A purpose of pyvips, see `vips`."""
DECODING = threading.Lock()
"""Held while a file is decoded: libvips has one buffer of error messages for all threads."""


class MissingVipsError(ImageError, MissingPackageError):
    """What is asked for an image needs pyvips, which is not installed."""


def vips(purpose: str) -> ModuleType:
    """The module `pyvips`.

    Args:
        purpose: what it is needed for, as the beginning of a sentence.

    Raises:
        MissingVipsError: it is not installed.
    """
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise MissingVipsError(f"{purpose} needs pyvips: {pip_install('images')}") from error
    return pyvips


def decode(
    data: bytes, name: str, *, layout: Layout | None = None, bits: int = 16, premultiplied: bool = False
) -> NDArray[Any]:
    """Decode PNG, TIFF or AVIF.

    Args:
        data: the file's content.
        name: what to call it in errors.
        layout: of a TIFF.
        bits: of an AVIF.
        premultiplied: whether the colors of an AVIF are premultiplied.

    Returns:
        (H, W, 1 to 4), uint8, uint16 or float32; not turned by an EXIF orientation, unless it is an AVIF.

    Raises:
        ImageError: damaged, or of an unsupported kind; or pyvips is not installed.
    """
    pyvips = vips(f"{name} has more than 8 bits per channel, which")
    _check_colors(layout, name)
    with DECODING, vips_errors(pyvips, name):
        image = _arranged(
            pyvips.Image.new_from_buffer(data, "", **_STRICT), layout, bits, premultiplied, name
        )
        return image.numpy().reshape(image.height, image.width, image.bands)


def open_file(source: Path, layout: Layout | None, *, bits: int, premultiplied: bool) -> Any:
    """A file as an upright image of libvips that is decoded row by row; arguments as those of `decode`.

    Raises:
        ImageError: of an unsupported kind.
    """
    pyvips = vips(f"{source} is too large for the memory; upscaling it in rows")
    _check_colors(layout, str(source))
    image = pyvips.Image.new_from_file(str(source), **_STRICT)
    # The names of all fields cannot be listed: those of texts are not always UTF-8.
    if image.get_typeof("orientation") and image.get("orientation") != 1:
        image = pyvips.Image.new_from_file(str(source), fail_on="error").autorot()
    return _arranged(image, layout, bits, premultiplied, str(source))


def _check_colors(layout: Layout | None, name: str) -> None:
    if layout is not None and layout.only_pillow:
        raise ImageError(
            f"{name} has Lab or YCbCr colors, which are only known in memory and with 8 bits: convert it "
            "to RGB first"
        )


def _arranged(image: Any, layout: Layout | None, bits: int, premultiplied: bool, name: str) -> Any:
    """An image of libvips with colors first and then straight transparency, if there is any.

    Raises:
        ImageError: of an unsupported kind.
    """
    if layout is not None and image.bands == layout.colors + (layout.alpha is not None) + layout.unknown:
        image = _select_channels(image, layout)
    kind = str(image.interpretation)
    if image.format not in TYPES or not 1 <= image.bands <= 4 or kind in ("cmyk", "lab", "labs"):
        raise ImageError(
            f"{name} has {image.bands} channels of type {image.format} ({kind}): convert it to gray or RGB "
            "with 8 or 16 bits or float"
        )
    if image.format == "ushort" and 8 < bits < 16:
        # They come shifted to 16 bits; white is to stay white.
        image = image.linear(65535 / (2**bits - 1) / 2 ** (16 - bits), 0).rint().cast("ushort")
    if premultiplied and image.bands in (2, 4):
        most = 65535 if image.format == "ushort" else 255
        image = image.unpremultiply(max_alpha=most).rint().cast(image.format)
    return image


def _select_channels(image: Any, layout: Layout) -> Any:
    """The colors and the transparency among the channels of a TIFF."""
    colors = image.extract_band(0, n=layout.colors)
    if layout.white_is_zero and image.format == "float":
        colors = (1 - colors).cast("float")  # libvips turns integers only
    result = colors if layout.alpha is None else colors.bandjoin(image.extract_band(layout.alpha))
    return result.copy(interpretation=image.interpretation)


class vips_errors:
    """Turn an error of libvips into an `ImageError` that names the file.

    The messages are cleared first: libvips appends those of all files to one buffer.
    """

    def __init__(self, pyvips: ModuleType, name: str) -> None:
        self._pyvips, self._name = pyvips, name

    def __enter__(self) -> None:
        self._pyvips.vips_lib.vips_error_clear()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, self._pyvips.Error):
            return
        lines = list(dict.fromkeys(line.strip() for line in str(error.detail).splitlines() if line.strip()))
        for line in lines:
            if "not configured" in line or "not supported" in line:
                words = line.partition(": ")[2] or line
                raise ImageError(
                    f"{self._name} is of a kind that is not supported here ({words}): save it with another "
                    "compression, such as deflate"
                ) from error
        reason = "; ".join(lines[:2]) or "it cannot be decoded"
        raise ImageError(f"{self._name} is damaged: {reason}") from error


def encode(
    pixels: NDArray[Any], format: Format, details: Details, *, bits: int = 16, quality: int = 95
) -> bytes:
    """Encode (H, W, 1 to 4) of uint16 or float32 as PNG, AVIF (both uint16 only) or TIFF.

    Args:
        pixels: what to encode.
        format: of the file.
        details: its metadata.
        bits: of an AVIF, 10 or 12.
        quality: of an AVIF.

    Raises:
        ImageError: pyvips is not installed, or cannot do it.
    """
    pyvips = vips(WRITING)
    pixels = np.ascontiguousarray(pixels)
    if format.name == "AVIF":
        most = 2**bits - 1
        pixels = np.rint(pixels * np.float32(most / 65535)).astype(np.uint16) << (16 - bits)
    with vips_errors(pyvips, "the result"):
        image = with_details(pyvips.Image.new_from_array(pixels), details)
        options = save_options(format, details, pixels.dtype, quality, bits)
        data = bytes(image.write_to_buffer(format.suffix, **options))
    buffer = io.BytesIO(data)
    correct_metadata(buffer, format, details)
    return buffer.getvalue()


def stored_bits(dtype: Any, bits: int) -> int:
    """Bits per channel of an AVIF for values of a type, made from an input of `bits` bits."""
    if np.dtype(dtype) == np.uint8:
        return 8
    return bits if bits in (10, 12) else 12


def save_options(format: Format, details: Details, dtype: Any, quality: int, bits: int) -> dict[str, Any]:
    """Arguments for libvips to save a format; arguments as those of `encode`."""
    known: dict[str, dict[str, Any]] = {
        "PNG": {},
        "TIFF": {"compression": "deflate", "predictor": "float" if dtype == np.float32 else "horizontal"},
        "JPEG": {"Q": quality, "subsample_mode": "off"},
        "WEBP": {"Q": quality, "lossless": quality == 100},
        "AVIF": {"Q": quality, "subsample_mode": "off", "bitdepth": bits, "compression": "av1"},
    }
    # Otherwise libvips writes EXIF data where there are none.
    return known[format.name] | {"keep": _EVERYTHING if details.exif else _EVERYTHING - _EXIF}


def with_details(image: Any, details: Details) -> Any:
    """An image of libvips with metadata."""
    # The interpretation is set: libvips would reduce channels of unknown meaning to 8 bits.
    deep = image.format == "ushort"
    if image.bands < 3:
        image = image.copy(interpretation="grey16" if deep else "b-w")
    else:
        image = image.copy(interpretation="rgb16" if deep else "srgb" if image.format == "uchar" else "rgb")
    blob = vips("This").GValue.blob_type
    for name, data in (
        ("icc-profile-data", details.icc),
        ("exif-data", details.exif),
        ("xmp-data", details.xmp),
    ):
        if data:
            image.set_type(blob, name, data)
    # libvips writes a resolution into EXIF data in any case; 72 is the default of EXIF.
    dpi = details.dpi or (72, 72)
    return image.copy(xres=dpi[0] / _MM_PER_INCH, yres=dpi[1] / _MM_PER_INCH)


def correct_metadata(file: BinaryIO, format: Format, details: Details) -> None:
    """Add metadata that libvips leaves out of a file, and remove what it makes up."""
    if format.name == "TIFF":
        add_tags(file, exif=details.exif, xmp=None, resolution=details.dpi is not None)
    elif details.dpi is None and format.name == "PNG":
        remove_resolution(file)
    elif details.dpi is None and format.name == "JPEG":
        remove_jpeg_resolution(file)
    if format.name == "PNG" and details.texts:
        add_texts(file, details.texts)
