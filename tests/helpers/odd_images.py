"""Image files byte by byte, of kinds that encoders do not write, and their way through the disk."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from helpers.nearest_runner import Nearest
from numpy.typing import NDArray
from PIL import Image

from lmlt_arch import Upscaler
from lmlt_arch.inference.images.color_profiles import Colors
from lmlt_arch.inference.images.decoding import decode_picture, read_header
from lmlt_arch.inference.images.encoding import Encoding
from lmlt_arch.inference.images.formats import FORMATS
from lmlt_arch.inference.images.picture import Picture
from lmlt_arch.inference.images.streaming import upscale_large

Pixels = NDArray[Any]

HEIGHT, WIDTH = 20, 32
HALF = np.full((HEIGHT, WIDTH, 1), 128)
GRAY = Colors().profile(gray=True)
SRGB = Colors().profile(gray=False)


def colors(depth: int) -> Pixels:
    """Soft RGB (20, 32, 3) of 8 or 16 bits, or float."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    eight = np.stack([x * 8, y * 11, (x + y) * 5], -1)
    if depth == 32:
        return (eight / 255).astype(np.float32)
    return eight.astype(np.uint8) if depth == 8 else (eight * 257).astype(np.uint16)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: Pixels, bits: int, color_type: int, *extra: bytes) -> bytes:
    """A PNG of rows as they are, with chunks before the pixels."""
    height, width = pixels.shape[:2]
    if bits < 8:
        groups = pixels.reshape(height, -1, 8 // bits).astype(int)
        shifts = 8 - bits * np.arange(1, 8 // bits + 1)
        stored: Pixels = (groups << shifts).sum(-1).astype(np.uint8)
    else:
        stored = pixels.astype(">u2" if bits == 16 else "u1")
    rows = b"".join(b"\0" + row.tobytes() for row in stored)
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(pixels: Pixels, *, pages: int = 1, cut: float = 1, **tags: Any) -> bytes:
    """An uncompressed little-endian TIFF with its directory first: tags are `t` and their number."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    data = pixels.tobytes()
    entries: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [pixels.itemsize * 8] * channels),
        259: (3, [1]),
        262: (3, [2 if channels >= 3 else 1]),
        273: (4, [0]),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [len(data)]),
        339: (3, [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]] * channels),
    }
    for name, value in tags.items():
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        entries[int(name[1:])] = (3, values)
    size = 2 + 12 * len(entries) + 4
    directories, start = b"", 8
    for page in range(pages):
        extra, outside = b"", start + size
        table = struct.pack("<H", len(entries))
        for tag, (kind, values) in sorted(entries.items()):
            packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'L'}", *values)
            if tag == 273:
                packed = b"OFFS"
            if len(packed) > 4:
                place = struct.pack("<L", outside + len(extra))
                extra += packed
                packed = place
            table += struct.pack("<HHL4s", tag, kind, len(values), packed)
        following = start + size + len(extra) if page + 1 < pages else 0
        directories += table + struct.pack("<L", following) + extra
        start += size + len(extra)
    whole = b"II*\0" + struct.pack("<L", 8) + directories.replace(b"OFFS", struct.pack("<L", start)) + data
    return whole[: int(len(whole) * cut)]


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """An image as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def avif(primaries: int, transfer: int) -> bytes:
    """An AVIF that says so of its colors."""
    data = bytearray(saved(Image.fromarray(colors(8)), "AVIF", quality=100, subsampling="4:4:4"))
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


def with_alpha(depth: int, alpha: Pixels = HALF) -> Pixels:
    pixels = colors(depth)
    scaled = alpha / 255 if depth == 32 else alpha * (257 if depth == 16 else 1)
    return np.concatenate([pixels, scaled.astype(pixels.dtype)], -1)


def from_disk(
    data: bytes, folder: Path, suffix: str, format: str | None = None
) -> tuple[Picture, tuple[str, ...]]:
    """What comes out of the way for images larger than memory, at the size of the input."""
    source, target = folder / f"in{suffix}", folder / f"out{suffix}"
    source.write_bytes(data)
    header = read_header(source, "it")
    runner = Nearest(scale=1)
    notes = upscale_large(
        source,
        target,
        Upscaler(runner),
        after=(header.height, header.width),
        format=FORMATS[format or header.format],
        encoding=Encoding(quality=100),
    )
    return decode_picture(target.read_bytes(), "result"), notes


def muted() -> Pixels:
    """Colors that all spaces have."""
    return (colors(8) // 4 + 90).astype(np.uint8)


def gamma(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def bmp(space: bytes, rest: bytes = bytes(64)) -> bytes:
    """A BMP of version 5 that says so of its colors."""
    pixels = colors(8)[::-1, :, ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, WIDTH, HEIGHT, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(16) + space
    header += rest[:48] + struct.pack("<IIII", 4, 124 + len(pixels), len(SRGB), 0)
    return b"BM" + struct.pack("<III", 138 + len(pixels) + len(SRGB), 0, 138) + header + pixels + SRGB


def zstd(image: Image.Image) -> bytes:
    return saved(image, "TIFF", compression="zstd")


def segment(marker: int, data: bytes) -> bytes:
    """Of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
