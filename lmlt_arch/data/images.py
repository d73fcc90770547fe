"""Strict reading of training images, and writing of PNG."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lmlt_arch.errors import LmltError

# Modes that hold 8-bit gray or color; palettes are expanded.
PLAIN_MODES = frozenset({"1", "L", "P", "RGB"})
ALPHA_MODES = frozenset({"LA", "PA", "RGBA"})
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_BITS_PER_SAMPLE = 258


class ImageError(LmltError, ValueError):
    """An image that cannot be used; the message names it and says why."""


def decode_image(data: bytes, *, name: str) -> NDArray[np.uint8]:
    """Decode an image file to 8-bit RGB.

    Gray and palette images become RGB, the EXIF orientation is applied (OpenCV, and so BasicSR, does both).
    An alpha channel is dropped where it is opaque everywhere.

    Args:
        data: the file's content: PNG, JPEG, BMP, TIFF or WebP.
        name: what to call the image in errors.

    Returns:
        Shape (h, w, 3), values 0..255.

    Raises:
        ImageError: the data are damaged or cut short, have more than 8 bits per channel, transparent pixels
            or another color model (such as CMYK). BasicSR would silently train on wrong colors.
    """
    try:
        with Image.open(io.BytesIO(data)) as file:
            refusal = _refusal(file, data)
            image = file if refusal else ImageOps.exif_transpose(with_true_key(file))
            if not refusal and (image.mode in ALPHA_MODES or "transparency" in image.info):
                image = image.convert("RGBA")
                if image.getchannel("A").getextrema() != (255, 255):
                    refusal = "has transparent pixels: composite it on a background first"
            pixels = None if refusal else np.asarray(image.convert("RGB"))
    except Exception as error:
        # Decoders raise nearly anything when fed with damaged data.
        raise ImageError(f"{name} is damaged or not an image: {reason_of(error)}") from error
    if pixels is None:
        raise ImageError(f"{name} {refusal}")
    return pixels


def with_true_key(image: Image.Image) -> Image.Image:
    """Correct the transparent gray of a PNG, if there is one, before the image is decoded.

    Pillow scales pixels of 2 and 4 bits to 0..255, but not that gray.
    """
    key, tiles = image.info.get("transparency"), getattr(image, "tile", ())
    bits = {"L;2": 2, "L;4": 4}.get(str(tiles[0][3])) if tiles else None
    if image.format == "PNG" and bits and isinstance(key, int):
        image.info["transparency"] = key * (255 // (2**bits - 1))
    return image


def reason_of(error: Exception) -> str:
    """The message of a decoder's error, without names of Python objects."""
    if isinstance(error, UnidentifiedImageError):
        return "it begins like no kind of image"
    return " ".join(re.sub(r"<[\w.]+ object at 0x\w+>", "it", str(error)).split()) or type(error).__name__


def look(source: Path | bytes) -> tuple[str | None, bool]:
    """Check the header of an image file, without decoding it.

    Returns:
        Why it cannot be used, or None; and whether it may be transparent. (None, False) for a file that
        cannot be opened.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            data = source[:32] if isinstance(source, bytes) else _beginning(source)
            return _refusal(file, data), file.mode in ALPHA_MODES or "transparency" in file.info
    except Exception:
        return None, False


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(32)


def _refusal(file: Image.Image, data: bytes) -> str | None:
    """Why an image that is opened but not decoded cannot be used, or None."""
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":
        return f"has {frames} frames: split it into single images first"
    if has_deep_channels(file, data):
        return "has more than 8 bits per channel: convert it to 8 bits first"
    if file.mode not in PLAIN_MODES | ALPHA_MODES:
        return f"has color mode {file.mode}: convert it to 8-bit RGB first"
    return None


def has_deep_channels(file: Image.Image, data: bytes) -> bool:
    """Whether channels have more than 8 bits, by the header: Pillow opens 16-bit RGB as plain RGB."""
    if data.startswith(PNG_SIGNATURE):
        depth: int = struct.unpack_from("B", data, 24)[0]
        return depth > 8
    bits = getattr(file, "tag_v2", {}).get(TIFF_BITS_PER_SAMPLE, (8,))
    return file.mode.startswith(("I", "F")) or max(bits) > 8


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as `decode_image` does.

    Raises:
        ImageError: also if the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    return decode_image(data, name=str(path))


def encode_png(image: NDArray[np.uint8], *, compression_level: int) -> bytes:
    """Encode an RGB image of shape (h, w, 3) as PNG, at zlib level 0 (none) to 9."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=compression_level)
    return buffer.getvalue()
