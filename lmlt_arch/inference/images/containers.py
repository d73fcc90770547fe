"""What Pillow does not read from the containers AVIF, JPEG and BMP."""

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
"""Longest chunk or box that is read, in bytes."""

# By the marker of their frame.
_RARE_JPEG = {
    **dict.fromkeys((0xC3, 0xCB), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
}


@dataclass(frozen=True)
class ContainerInfo:
    """The color description and the metadata that a container itself holds.

    Attributes:
        bits: per channel.
        colors: the color space, where it is described by numbers and not by an ICC profile.
        exif: EXIF data.
        texts: keywords and texts.
        premultiplied: whether colors are premultiplied with transparency.
        icc: profile of a PNG or BMP; Pillow reads that of others.
        xmp: of a PNG; likewise.
        gray: whether it is decoded to one color channel; None where the mode of Pillow says so.
        notes: which of this cannot be kept.
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
    """Open a file, or its content, for reading."""
    return closing(io.BytesIO(source) if isinstance(source, bytes) else source.open("rb"))


def read_avif(source: Path | bytes, name: str) -> ContainerInfo:
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
            return ContainerInfo(bits, colors, premultiplied=premultiplied, gray=gray)
    return ContainerInfo(bits, premultiplied=premultiplied, gray=gray)


def check_jpeg(source: Path | bytes, name: str) -> None:
    """Refuse kinds of JPEG that are valid, but that decoders call damaged.

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


def read_bmp(source: Path | bytes) -> ContainerInfo:
    """Read the color space in the header of a BMP, version 4 or 5."""
    with opened(source) as file:
        header = file.read(14 + 124)
        (size,) = struct.unpack_from("<I", header, 14)
        space = header[70:74] if size >= 108 else b""
        if space == b"DEBM" and size >= 124:
            start, length = struct.unpack_from("<II", header, 14 + 112)
            file.seek(14 + start)
            return ContainerInfo(8, icc=file.read(min(length, MOST)) or b"missing")
    # Many programs write zeros where nothing is calibrated.
    if space == b"KNIL" or (space == bytes(4) and any(header[74:122])):
        return ContainerInfo(8, notes=("its calibration of colors (primaries, white, curves) is left out",))
    return ContainerInfo(8)


def remove_jpeg_resolution(file: BinaryIO) -> None:
    """Replace the resolution in a JPEG, which libvips always writes, by an aspect of 1:1.

    Args:
        file: open for reading and writing.
    """
    file.seek(0)
    head = file.read(20)
    if head[6:11] == b"JFIF\0":
        file.seek(13)
        file.write(struct.pack(">BHH", 0, 1, 1))


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
