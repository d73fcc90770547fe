"""What PNG and AVIF files say that Pillow does not tell: chunks, boxes, and the colors that they describe."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from lmlt_arch.inference.color_profiles import CURVES, PRIMARIES, Colors, by_numbers

_MOST = 2**24  # bytes of a chunk or box that is of any interest here


@dataclass(frozen=True)
class Described:
    """What a container says of its pixels.

    Attributes:
        bits: per channel.
        colors: what they mean; None where nothing is said but by an ICC profile.
        exif: EXIF data.
        texts: keywords and texts.
        premultiplied: whether colors are, with transparency.
    """

    bits: int
    colors: Colors | None = None
    exif: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    premultiplied: bool = False


def opened(source: Path | bytes) -> closing[BinaryIO]:
    """A file, or its content, to be read."""
    return closing(io.BytesIO(source) if isinstance(source, bytes) else source.open("rb"))


def describe_png(source: Path | bytes, name: str) -> Described:
    """Read the chunks of a PNG, cICP before iCCP before sRGB before gAMA and cHRM (PNG, third edition, 4.3).

    Raises:
        ImageError: colors that cannot be kept, see `by_numbers`.
        struct.error: damaged.
    """
    with opened(source) as file:
        found = list(_chunks(file))
    chunks = dict(found)
    texts = tuple(pair for kind, data in found if (pair := _text(kind, data)))
    said = Described(chunks[b"IHDR"][8], None, chunks.get(b"eXIf"), texts)
    if cicp := chunks.get(b"cICP"):
        primaries, transfer, _, full = struct.unpack(">4B", cicp)
        return replace(said, colors=by_numbers(primaries, transfer, full_range=full == 1, name=name))
    if b"iCCP" in chunks or b"sRGB" in chunks or not chunks.keys() & {b"gAMA", b"cHRM"}:
        return said
    points, curve = PRIMARIES[1], CURVES[13]
    if chromaticities := chunks.get(b"cHRM"):
        values = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
        white, red, green, blue = zip(values[::2], values[1::2], strict=True)
        if min(y for _, y in (white, red, green, blue)) > 0:
            points = (red, green, blue, white)
    if gamma := chunks.get(b"gAMA"):
        (value,) = struct.unpack(">I", gamma)
        curve = (100_000 / value,) if value else curve
    return replace(said, colors=Colors(points, curve))


def _text(kind: bytes, data: bytes) -> tuple[str, str] | None:
    """Keyword and text of a chunk, if it is one of text; a damaged one is none."""
    keyword, end, rest = data.partition(b"\0")
    with contextlib.suppress(ValueError, zlib.error, IndexError):
        if kind == b"tEXt" and end:
            return keyword.decode("latin-1"), rest.decode("latin-1")
        if kind == b"zTXt" and end:
            return keyword.decode("latin-1"), _inflated(rest[1:]).decode("latin-1")
        if kind == b"iTXt" and end:
            _, _, text = rest[2:].split(b"\0", 2)
            return keyword.decode("latin-1"), (_inflated(text) if rest[0] else text).decode()
    return None


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _MOST)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND") or length > _MOST:
            file.seek(length + 4, io.SEEK_CUR)
        else:
            yield kind, file.read(length)
            file.seek(4, io.SEEK_CUR)


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
    premultiplied = any(kind == b"prem" for kind, _ in _boxes(boxes.get(b"iref", b"")[4:]))
    for number, (kind, data) in enumerate(properties, 1):
        if kind == b"colr" and data[:4] == b"nclx" and (number in wanted or not wanted):
            # The decoder makes RGB of full range of it.
            primaries, transfer = struct.unpack_from(">HH", data, 4)
            colors = by_numbers(primaries, transfer, full_range=True, name=name)
            return Described(bits, colors, premultiplied=premultiplied)
    return Described(bits, premultiplied=premultiplied)


def forget_resolution(file: BinaryIO, format: str) -> None:
    """Take back the resolution that libvips invents where there is none: PNG and JPEG keep an aspect of 1:1.

    Args:
        file: open for reading and writing.
        format: Pillow's name.
    """
    file.seek(0)
    if format == "JPEG":
        head = file.read(20)
        if head[6:11] == b"JFIF\0":
            file.seek(13)
            file.write(struct.pack(">BHH", 0, 1, 1))
        return
    file.seek(8)
    while format == "PNG" and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"pHYs":
            data = kind + struct.pack(">IIB", 1, 1, 0)
            file.seek(-4, io.SEEK_CUR)
            file.write(data + struct.pack(">I", zlib.crc32(data)))
        if kind in (b"pHYs", b"IDAT"):
            return
        file.seek(length + 4, io.SEEK_CUR)


def add_texts(file: BinaryIO, texts: tuple[tuple[str, str], ...]) -> None:
    """Give a PNG texts, which libvips would write in the wrong character set.

    Args:
        file: open for reading and writing.
        texts: keywords and texts.
    """
    file.seek(-12, io.SEEK_END)
    end = file.read(12)
    file.seek(-12, io.SEEK_END)
    for keyword, text in texts:
        data = keyword.encode("latin-1", "replace") + bytes(5) + text.encode()
        file.write(struct.pack(">I", len(data)) + b"iTXt" + data)
        file.write(struct.pack(">I", zlib.crc32(b"iTXt" + data)))
    file.write(end)


def _box(file: BinaryIO, wanted: bytes) -> bytes:
    file.seek(0)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if length == 1:
            length = struct.unpack(">Q", file.read(8))[0] - 8
        if kind == wanted:
            return file.read(min(length - 8, _MOST))
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
