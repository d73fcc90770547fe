"""What containers say that Pillow does not tell: here AVIF and BMP."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lmlt_arch.data.images import ImageError
from lmlt_arch.inference.images.color_profiles import Colors, by_numbers

MOST = 2**24
"""Bytes of a chunk or box that is of any interest here."""


# By the marker of their frame.
_RARE_JPEG = {
    **dict.fromkeys((0xC3, 0xCB), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
}


@dataclass(frozen=True)
class Described:
    """What a container says of its pixels.

    Attributes:
        bits: per channel.
        colors: what they mean; None where nothing is said but by an ICC profile.
        exif: EXIF data.
        texts: keywords and texts.
        premultiplied: whether colors are, with transparency.
        icc: profile of a PNG or BMP; Pillow tells that of others.
        xmp: of a PNG; likewise.
        gray: whether it becomes pixels of one color channel; None where Pillow knows.
        notes: what of all this cannot be kept.
    """

    bits: int
    colors: Colors | None = None
    exif: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    premultiplied: bool = False
    icc: bytes | None = None
    xmp: bytes | None = None
    gray: bool | None = None
    notes: tuple[str, ...] = ()


def opened(source: Path | bytes) -> closing[BinaryIO]:
    """A file, or its content, to be read."""
    return closing(io.BytesIO(source) if isinstance(source, bytes) else source.open("rb"))


def describe_avif(source: Path | bytes, name: str) -> Described:
    """Read the properties of an AVIF's primary image (ISO/IEC 23008-12, 9.3; 14496-12, 12.1.5).

    Raises:
        ImageError: colors that cannot be kept, see `by_numbers`.
        struct.error: damaged.
    """
    with opened(source) as file:
        meta = _box(file, b"meta")
    boxes = dict(_boxes(meta[4:]))
    container = dict(_boxes(boxes.get(b"iprp", b"")))
    properties = list(_boxes(container.get(b"ipco", b"")))
    bits = max([8, *(data[5] for kind, data in properties if kind == b"pixi" and len(data) > 5)])
    for kind, data in properties:
        if kind == b"av1C" and data[2] & 0x40:
            bits = max(bits, 12 if data[2] & 0x20 else 10)
    wanted = _of_primary(boxes, container)
    gray = None if bits == 8 else False  # libvips makes colors of all
    premultiplied = any(kind == b"prem" for kind, _ in _boxes(boxes.get(b"iref", b"")[4:]))
    for number, (kind, data) in enumerate(properties, 1):
        if kind == b"colr" and data[:4] == b"nclx" and (number in wanted or not wanted):
            # The decoder makes RGB of full range of it.
            primaries, transfer = struct.unpack_from(">HH", data, 4)
            colors = by_numbers(primaries, transfer, full_range=True, name=name)
            return Described(bits, colors, premultiplied=premultiplied, gray=gray)
    return Described(bits, premultiplied=premultiplied, gray=gray)


def check_jpeg(source: Path | bytes, name: str) -> None:
    """Refuse kinds of JPEG that are whole, and that decoders call damaged.

    Raises:
        ImageError: more than 8 bits, lossless or hierarchical.
    """
    with opened(source) as file:
        file.seek(2)
        while (head := file.read(4))[:1] == b"\xff" and len(head) == 4:
            marker, length = head[1], int.from_bytes(head[2:], "big")
            if marker == 0xFF:  # padding
                file.seek(-3, io.SEEK_CUR)
                continue
            if marker == 0xDA:
                return
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                bits = (file.read(1) or b"\x08")[0]
                kind = f"{bits} bits" if bits != 8 else _RARE_JPEG.get(marker)
                if kind:
                    raise ImageError(
                        f"{name} is a JPEG of a kind that is not supported here ({kind}): convert it to PNG "
                        "first"
                    )
                return
            file.seek(length - 2, io.SEEK_CUR)


def describe_bmp(source: Path | bytes) -> Described:
    """Read what the header of a BMP, version 4 or 5, says of its colors."""
    with opened(source) as file:
        header = file.read(14 + 124)
        (size,) = struct.unpack_from("<I", header, 14)
        space = header[70:74] if size >= 108 else b""
        if space == b"DEBM" and size >= 124:
            start, length = struct.unpack_from("<II", header, 14 + 112)
            file.seek(14 + start)
            return Described(8, icc=file.read(min(length, MOST)) or b"missing")
    # Many write zeros where they know nothing.
    if space == b"KNIL" or (space == bytes(4) and any(header[74:122])):
        return Described(8, notes=("its calibration of colors (primaries, white, curves) is left out",))
    return Described(8)


def _box(file: BinaryIO, wanted: bytes) -> bytes:
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if length == 1:
            length = struct.unpack(">Q", file.read(8))[0] - 8
        if kind == wanted:
            return file.read(min(length - 8, MOST))
        if length < 8:
            break
        file.seek(length - 8, io.SEEK_CUR)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if length < 8:
            return
        yield kind, data[place + 8 : place + length]
        place += length


def _of_primary(boxes: dict[bytes, bytes], container: dict[bytes, bytes]) -> set[int]:
    """Numbers of the properties that belong to the primary image."""
    primary_box, links = boxes.get(b"pitm", b""), container.get(b"ipma", b"")
    if not primary_box or not links:
        return set()
    primary = struct.unpack_from(">I" if primary_box[0] else ">H", primary_box, 4)[0]
    wide_items, wide_numbers = links[0] > 0, links[3] & 1
    (count,) = struct.unpack_from(">I", links, 4)
    place = 8
    for _ in range(count):
        (item,) = struct.unpack_from(">I" if wide_items else ">H", links, place)
        place += 4 if wide_items else 2
        amount, place = links[place], place + 1
        numbers = struct.unpack_from(f">{amount}{'H' if wide_numbers else 'B'}", links, place)
        place += amount * (2 if wide_numbers else 1)
        if item == primary:
            return {number & (0x7FFF if wide_numbers else 0x7F) for number in numbers}
    return set()
