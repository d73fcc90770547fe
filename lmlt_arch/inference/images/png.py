"""Chunks of PNG: the metadata, checks of the pixels, and corrections after encoding.

Pillow refuses a whole image for damaged metadata, and makes missing pixels black. So the metadata are read
here, and the pixels are counted.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lmlt_arch.data.images import ImageError
from lmlt_arch.inference.images.color_profiles import CURVES, PRIMARIES, Colors, by_numbers
from lmlt_arch.inference.images.containers import MOST, ContainerInfo, opened

XMP_KEYWORD = "XML:com.adobe.xmp"
"""Keyword of the text that holds XMP data."""
_RAW_PROFILE = "Raw profile type "
_OF_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND")
_BESIDE = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"pHYs")
_MOST_TEXT = 2**26  # bytes of all texts
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Start and step of the rows and columns of each pass.
_ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


def read_png(source: Path | bytes, name: str) -> ContainerInfo:
    """Read the chunks of a PNG, cICP before iCCP before sRGB before gAMA and cHRM (PNG, third edition, 4.3).

    Raises:
        ImageError: colors that cannot be kept, see `by_numbers`.
    """
    with opened(source) as file:
        header = file.read(33)
        found = list(_beside(file))
    if header[12:16] != b"IHDR":
        raise ImageError(f"{name} is damaged: it does not begin with a header")
    chunks = {kind: data for kind, data in found if data is not None}
    texts, whole = _texts([(kind, data) for kind, data in found if data is not None])
    whole = whole and all(data is not None for _, data in found)
    raw = _raw_profiles(texts)
    icc, colors = raw.get("icc") or raw.get("icm"), None
    try:
        if b"iCCP" in chunks:
            icc = _inflated(chunks[b"iCCP"].partition(b"\0")[2][1:], MOST)
        colors = _colors(chunks, name)
    except ImageError:
        raise
    except (struct.error, ValueError, zlib.error):
        whole = False
    notes = [] if whole else ["some of what lies beside its pixels is damaged or too large, and left out"]
    if raw.keys() - {"exif", "APP1", "xmp", "icc", "icm"}:
        notes.append("its IPTC and Photoshop data are left out")
    return ContainerInfo(
        header[24],
        colors,
        chunks.get(b"eXIf") or raw.get("exif") or raw.get("APP1"),
        tuple(pair for pair in texts if pair[0] != XMP_KEYWORD and not pair[0].startswith(_RAW_PROFILE)),
        icc=icc,
        xmp=next((text.encode() for keyword, text in texts if keyword == XMP_KEYWORD), raw.get("xmp")),
        gray=header[25] in (0, 4),
        notes=tuple(notes),
    )


def _colors(chunks: dict[bytes, bytes], name: str) -> Colors | None:
    """The color space by cICP or by gAMA and cHRM, unless another chunk overrides it."""
    if cicp := chunks.get(b"cICP"):
        primaries, transfer, _, full = struct.unpack(">4B", cicp)
        return by_numbers(primaries, transfer, full_range=full == 1, name=name)
    if b"iCCP" in chunks or b"sRGB" in chunks or not chunks.keys() & {b"gAMA", b"cHRM"}:
        return None
    points, curve = PRIMARIES[1], CURVES[13]
    if chromaticities := chunks.get(b"cHRM"):
        values = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
        white, red, green, blue = zip(values[::2], values[1::2], strict=True)
        if min(y for _, y in (white, red, green, blue)) > 0:
            points = (red, green, blue, white)
    if gamma := chunks.get(b"gAMA"):
        (value,) = struct.unpack(">I", gamma)
        curve = (100_000 / value,) if value else curve
    return Colors(points, curve)


def _texts(chunks: list[tuple[bytes, bytes]]) -> tuple[list[tuple[str, str]], bool]:
    """Keywords and texts, and whether all could be read."""
    found, left, whole = [], _MOST_TEXT, True
    for kind, data in chunks:
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        try:
            found.append(_text(kind, data, left))
            left -= len(found[-1][1])
        except (ValueError, zlib.error, IndexError):
            whole = False
    return found, whole


def _text(kind: bytes, data: bytes, most: int) -> tuple[str, str]:
    keyword, end, rest = data.partition(b"\0")
    if not end:
        raise ValueError("no keyword")
    if kind == b"tEXt":
        return keyword.decode("latin-1"), rest.decode("latin-1")
    if kind == b"zTXt":
        return keyword.decode("latin-1"), _inflated(rest[1:], most).decode("latin-1")
    _, _, text = rest[2:].split(b"\0", 2)
    return keyword.decode("latin-1"), (_inflated(text, most) if rest[0] else text).decode()


def _inflated(data: bytes, most: int) -> bytes:
    stream = zlib.decompressobj()
    result = stream.decompress(data, min(most, MOST) + 1)
    if not stream.eof or len(result) > most:
        raise ValueError("cut short, or too large")
    return result


def _raw_profiles(texts: list[tuple[str, str]]) -> dict[str, bytes]:
    """Profiles that ImageMagick has written as texts, by kind."""
    found = dict[str, bytes]()
    for keyword, text in texts:
        kind = keyword.removeprefix(_RAW_PROFILE)
        if kind != keyword:
            with contextlib.suppress(ValueError):
                # After a name and a length.
                found[kind] = bytes.fromhex("".join(text.split()[2:]))
    return found


def _beside(file: BinaryIO) -> Iterator[tuple[bytes, bytes | None]]:
    """The chunks with metadata; their data are None where they are too large or damaged."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        if kind not in _BESIDE or length > MOST:
            file.seek(length + 4, io.SEEK_CUR)
            if kind in _BESIDE:
                yield kind, None
            continue
        data = file.read(length)
        yield kind, data if file.read(4) == _sum(kind + data) else None


def _sum(data: bytes | memoryview) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def for_pillow(source: Path | bytes) -> io.BytesIO:
    """A PNG without the chunks that Pillow might refuse; for a file, without its pixels too."""
    kept, most = [b"\x89PNG\r\n\x1a\n"], MOST if isinstance(source, Path) else len(source)
    with opened(source) as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if isinstance(source, Path) and kind == b"IDAT":
                kept.append(head)
                break
            body = file.read(min(length + 4, most)) if kind in (*_OF_PIXELS, b"pHYs") else b""
            if not body:
                file.seek(length + 4, io.SEEK_CUR)
            elif kind in _OF_PIXELS or (length == 9 and body[9:] == _sum(kind + body[:9])):
                kept += [head, body]
            if kind == b"IEND":
                break
    return io.BytesIO(b"".join(kept))


def check_pixels(data: bytes, name: str) -> None:
    """Refuse a PNG that holds other pixels than its header says, or damaged ones: Pillow makes black of them.

    Raises:
        ImageError: see above.
    """
    width, height, bits, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    passes = _ADAM7 if interlaced else ((0, 1, 0, 1),)
    needed = 0
    for top, down, left, right in passes:
        rows, columns = -(-(height - top) // down), -(-(width - left) // right)
        if rows > 0 and columns > 0:
            needed += rows * (1 + math.ceil(columns * bits * _CHANNELS.get(kind, 1) / 8))
    stream, held, place = zlib.decompressobj(), 0, 8
    view = memoryview(data)
    try:
        while place + 8 <= len(data) and held < needed:
            length, chunk = struct.unpack_from(">I4s", data, place)
            if chunk == b"IDAT":
                part = view[place + 8 : place + 8 + length]
                if view[place + 8 + length : place + 12 + length] != _sum(
                    view[place + 4 : place + 8 + length]
                ):
                    raise ImageError(f"{name} is damaged: its pixels are not those that were written")
                held += _length(stream, part)
            elif chunk[0] < 97 and chunk not in _OF_PIXELS:  # a capital: what follows depends on it
                raise ImageError(
                    f"{name} is of a kind that is not supported here ({chunk.decode('latin-1')})"
                )
            place += 12 + length
    except zlib.error as error:
        raise ImageError(f"{name} is damaged: {error}") from error
    if held < needed:
        raise ImageError(f"{name} is damaged: it holds {held:,} of {needed:,} bytes of pixels")


def _length(stream: zlib._Decompress, data: bytes | memoryview) -> int:
    """Bytes that more of a compressed stream expands to."""
    length = len(part := stream.decompress(data, MOST))
    while stream.unconsumed_tail and part:
        length += len(part := stream.decompress(stream.unconsumed_tail, MOST))
    return length


def remove_resolution(file: BinaryIO) -> None:
    """Replace the resolution in a PNG, which libvips always writes, by an aspect of 1:1.

    Args:
        file: open for reading and writing.
    """
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"pHYs":
            data = kind + struct.pack(">IIB", 1, 1, 0)
            file.seek(-4, io.SEEK_CUR)
            file.write(data + _sum(data))
        if kind in (b"pHYs", b"IDAT"):
            return
        file.seek(length + 4, io.SEEK_CUR)


def add_texts(file: BinaryIO, texts: tuple[tuple[str, str], ...]) -> None:
    """Add texts to a PNG; libvips would write them in the wrong character set.

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
        file.write(_sum(b"iTXt" + data))
    file.write(end)
