"""Tags that encoders do not write into a TIFF."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lmlt_arch.inference.images.tiff import DESCRIPTIVE, EXIF, GPS, INTEROPERABILITY, RESOLUTION, XMP


def add_tags(file: BinaryIO, *, exif: bytes | None, xmp: bytes | None, resolution: bool) -> None:
    """Give a TIFF of one page, just written, what its encoder left out, by a second directory at its end.

    Args:
        file: open for reading and writing.
        exif: EXIF data; their descriptions, EXIF and GPS directories are added.
        xmp: XMP data.
        resolution: whether it has one; otherwise what the encoder wrote in its place goes.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    large = struct.unpack(order + "H", head[2:4])[0] == 43
    # How a number of entries, an entry and a place in the file are written.
    number, entry, place = ("Q", "HHQ8s", "Q") if large else ("H", "HHL4s", "L")
    at = 8 if large else 4
    file.seek(struct.unpack_from(order + place, head, at)[0])
    count = struct.unpack(order + number, file.read(struct.calcsize(number)))[0]
    size = struct.calcsize(order + entry)
    entries: dict[int, tuple[int, int, bytes]] = {}
    for _ in range(count):
        tag, kind, items, value = struct.unpack(order + entry, file.read(size))
        entries[tag] = (kind, items, value)
    if not resolution:
        entries = {tag: rest for tag, rest in entries.items() if tag not in RESOLUTION}
    end = file.seek(0, io.SEEK_END)
    file.write(bytes(-end % 8))
    prefix = head[:2] + struct.pack(order + "HHHQ", 43, 8, 0, 0) if large else head[:4] + bytes(4)
    for tag, kind, data in _added(prefix, exif, xmp, file.tell):
        start = file.tell()
        room = 8 if large else 4
        if kind == 4:  # a directory
            entries[tag] = (kind, 1, struct.pack(order + "L", start).ljust(room, b"\0"))
        elif len(data) <= room:
            entries[tag] = (kind, len(data), data.ljust(room, b"\0"))
            continue
        else:
            entries[tag] = (kind, len(data), struct.pack(order + place, start))
        file.write(data + bytes(-len(data) % 8))
    start = file.tell()
    file.write(struct.pack(order + number, len(entries)))
    for tag, (kind, items, value) in sorted(entries.items()):
        file.write(struct.pack(order + entry, tag, kind, items, value))
    file.write(struct.pack(order + place, 0))
    file.seek(at)
    file.write(struct.pack(order + place, start))


def _added(
    prefix: bytes, exif: bytes | None, xmp: bytes | None, place: Callable[[], int]
) -> Iterator[tuple[int, int, bytes]]:
    """Tags, their types, and their bytes, which are to lie where `place` says."""
    if xmp:
        yield XMP, 1, xmp
    if not exif:
        return
    values = Image.Exif()
    values.load(exif)
    for tag in DESCRIPTIVE:
        if isinstance(values.get(tag), str):
            yield tag, 2, values[tag].encode("utf-8", "replace") + b"\0"
    for tag in (EXIF, GPS):
        inner = ImageFileDirectory_v2(prefix, group=tag)
        for key, value in values.get_ifd(tag).items():
            if key != INTEROPERABILITY:
                inner[key] = value
        if inner:
            yield tag, 4, inner.tobytes(place())
