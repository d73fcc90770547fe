"""Images with more than 8 bits per channel, which Pillow cannot read in colour: by libvips."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.images import ImageError

_MM_PER_INCH = 25.4
_TYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}


def vips(purpose: str) -> ModuleType:
    """The module `pyvips`.

    Args:
        purpose: what it is needed for, as the beginning of a sentence.

    Raises:
        ImageError: it is not installed.
    """
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise ImageError(f'{purpose} needs pyvips: pip install "basicsr-lmlt[images]"') from error
    return pyvips


def decode(data: bytes, name: str) -> NDArray[Any]:
    """Decode PNG or TIFF.

    Returns:
        (H, W, 1 to 4), uint8, uint16 or float32; not turned by an EXIF orientation.

    Raises:
        ImageError: damaged, or of a kind that is not known; or pyvips is not installed.
    """
    pyvips = vips(f"{name} has more than 8 bits per channel, which")
    try:
        image = pyvips.Image.new_from_buffer(data, "", access="sequential", fail_on="truncated")
        known = _TYPES.get(image.format)
        pixels = image.numpy() if known else None
    except pyvips.Error as error:
        raise ImageError(f"{name} is damaged: {' '.join(str(error.detail).split())}") from error
    if pixels is None or not 1 <= image.bands <= 4 or image.interpretation in ("cmyk", "lab"):
        raise ImageError(
            f"{name} has {image.bands} channels of type {image.format} ({image.interpretation}): convert it "
            "to gray or RGB with 8 or 16 bits or float"
        )
    return pixels.reshape(image.height, image.width, image.bands)


def read_tiff_header(
    source: Path | bytes, name: str
) -> tuple[int, int, int, bytes | None, tuple[float, float]]:
    """Height, width, EXIF orientation, colour profile and resolution of a TIFF that Pillow does not know.

    Raises:
        ImageError: damaged; or pyvips is not installed.
    """
    pyvips = vips(f"{name} is a kind of TIFF that")
    try:
        if isinstance(source, bytes):
            image = pyvips.Image.new_from_buffer(source, "", access="sequential")
        else:
            image = pyvips.Image.new_from_file(str(source), access="sequential")
    except pyvips.Error as error:
        raise ImageError(f"{name} is damaged: {' '.join(str(error.detail).split())}") from error
    fields = image.get_fields()
    orientation = image.get("orientation") if "orientation" in fields else 1
    icc = bytes(image.get("icc-profile-data")) if "icc-profile-data" in fields else None
    dpi = (image.xres * _MM_PER_INCH, image.yres * _MM_PER_INCH)
    return image.height, image.width, orientation, icc, dpi


def encode(
    pixels: NDArray[Any],
    format: str,
    *,
    icc: bytes | None,
    exif: bytes | None,
    dpi: tuple[float, float] | None,
) -> bytes:
    """Encode (H, W, 1 to 4) of uint16 or float32 as PNG (uint16 only) or TIFF.

    Raises:
        ImageError: pyvips is not installed.
    """
    pyvips = vips("Writing more than 8 bits per channel")
    pixels = np.ascontiguousarray(pixels)
    image = described(pyvips.Image.new_from_array(pixels), icc=icc, exif=exif, dpi=dpi)
    if format == "PNG":
        return bytes(image.pngsave_buffer())
    predictor = "float" if pixels.dtype == np.float32 else "horizontal"
    return bytes(image.tiffsave_buffer(compression="deflate", predictor=predictor))


def described(image: Any, *, icc: bytes | None, exif: bytes | None, dpi: tuple[float, float] | None) -> Any:
    """A libvips image with what belongs to it besides its pixels."""
    # Said explicitly: libvips would reduce channels of unknown meaning to 8 bits.
    deep = image.format == "ushort"
    if image.bands < 3:
        image = image.copy(interpretation="grey16" if deep else "b-w")
    else:
        image = image.copy(interpretation="rgb16" if deep else "srgb" if image.format == "uchar" else "rgb")
    for name, data in (("icc-profile-data", icc), ("exif-data", exif)):
        if data:
            image.set_type(vips("This").GValue.blob_type, name, data)
    if dpi:
        image = image.copy(xres=dpi[0] / _MM_PER_INCH, yres=dpi[1] / _MM_PER_INCH)
    return image
