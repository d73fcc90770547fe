"""Directories of TIFF: checks and metadata before decoding, and tags that encoders leave out.

Decoders are lenient: pixels behind the end of a file become black, channels of unknown meaning become
transparency. So the directory is checked here, the same for every decoder.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import lookup

from lmlt_arch.data.images import ImageError
from lmlt_arch.inference.images.containers import opened
from lmlt_arch.inference.images.details import Details, fitting_profile

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_KIND, _OLD_KIND = 254, 255
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _CHANNELS, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 277, 278, 279
RESOLUTION = (282, 283, 296)
_ORIENTATION, _ICC = 274, 34675
_IPTC = (33723, 34377, 37724)
_NAMED = 4  # tags that a message lists
_CALIBRATION = (301, 318, 319)  # transfer function, white point, primaries
_PLANAR, _TILES, _TILE_BYTES, _EXTRA, _SAMPLES = 284, 324, 325, 338, 339
XMP, EXIF, GPS, INTEROPERABILITY, _DNG = 700, 0x8769, 0x8825, 0xA005, 50706
# Color channels by photometric interpretation: white is zero, black is zero, RGB, palette, CMYK, YCbCr, Lab.
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_PALETTE, _YCBCR, _LAB, _SUBSAMPLING = 3, 6, 8, 530
_SUPPORTED = {(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (16, 3), (32, 3)}
_KINDS = {1: "unsigned", 2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_PREMULTIPLIED, _STRAIGHT = 1, 2
_BESIDE = ("its further pages, which are smaller copies or masks, are left out",)
_JPEG, _DEFLATED = (6, 7), (8, 32946)  # compressions
_BIT_ORDER, _AT_ONCE = 266, 2**16
_SPACES = {0: b"GRAY", 1: b"GRAY", 5: b"CMYK", 8: b"Lab "}  # signatures of ICC; others are RGB

# Tags about the layout of the old file, besides those above.
_LAYOUT = {
    *range(254, 269),
    *range(273, 285),
    *range(286, 305),
    *range(317, 348),
    *range(512, 522),
    *range(529, 533),
}
# Descriptions for the program that wrote them, with the size of the image.
_OF_LAYOUT = re.compile(r'\{"shape"|ImageJ=|<\?xml.*<OME', re.DOTALL)
# Description, make, model, software, date, artist, copyright: EXIF data that a TIFF keeps among the tags
# about its layout.
DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)

_Directory = Callable[..., ImageFileDirectory_v2]
"""Makes an empty directory."""


@dataclass(frozen=True)
class Layout:
    """The contents of a TIFF's directory.

    Attributes:
        height: as stored, before the orientation is applied.
        width: likewise.
        orientation: of EXIF, 1 to 8.
        details: the metadata of the file.
        colors: how many channels are colors; they come first. 4 are CMYK.
        alpha: which channel is transparency.
        white_is_zero: whether white is 0 and black the greatest value.
        unknown: how many channels have no stated meaning.
        deep: whether channels have more than 8 bits.
        only_pillow: whether libvips would mistake the colors: Lab of 8 bits, and YCbCr that are not JPEG.
    """

    height: int
    width: int
    orientation: int
    details: Details
    colors: int
    alpha: int | None
    white_is_zero: bool
    unknown: int
    deep: bool
    only_pillow: bool


def read_layout(source: Path | bytes, name: str) -> Layout:
    """Read and check the directory of a TIFF.

    Raises:
        ImageError: damaged, cut short, of several pages, or of an unsupported kind.
    """
    with opened(source) as file:
        size = file.seek(0, io.SEEK_END)
        directory, (tags, *more) = _directories(file, name)
        pages = [tags] if _is_beside(tags) else [entry for entry in more if not _is_beside(entry)]
        if pages:
            raise ImageError(f"{name} has {1 + len(more)} frames: split it into single images")
        if _DNG in tags:
            raise ImageError(f"{name} is a raw photograph (DNG): develop it into an image first")
        _check_kind(tags, name)
        height, width = _one(tags, _HEIGHT, 0), _one(tags, _WIDTH, 0)
        count, colors = _one(tags, _CHANNELS, 1), _COLORS[_one(tags, _PHOTOMETRIC, 1)]
        if min(height, width) < 1 or count < colors:
            raise ImageError(f"{name} is damaged: {width} x {height} pixels of {count} channels")
        _check_stored(tags, height, width, size, name)
        meanings = (*_many(tags, _EXTRA), *([0] * count))[: count - colors]
        alphas = [number for number, meaning in enumerate(meanings) if meaning in (_PREMULTIPLIED, _STRAIGHT)]
        unknown = len(meanings) - len(alphas[:1])
        turned = _one(tags, _ORIENTATION, 1)
        return Layout(
            height=height,
            width=width,
            orientation=turned if turned in range(1, 9) else 1,
            details=_details(file, directory, tags, unknown).noting(*_BESIDE[: len(more)]),
            colors=colors,
            alpha=colors + alphas[0] if alphas else None,
            white_is_zero=_one(tags, _PHOTOMETRIC, 1) == 0,
            unknown=unknown,
            deep=_one(tags, _BITS, 1) > 8,
            only_pillow=_is_only_for_pillow(tags),
        )


def _is_only_for_pillow(tags: ImageFileDirectory_v2) -> bool:
    colors = _one(tags, _PHOTOMETRIC, 1)
    if colors == _LAB:
        return _one(tags, _BITS, 1) == 8
    return colors == _YCBCR and _one(tags, _COMPRESSION, 1) not in _JPEG


def _is_beside(tags: ImageFileDirectory_v2) -> bool:
    """Whether a page is a smaller copy or a mask of another."""
    return bool(_one(tags, _KIND, 0) & 0b101) or _one(tags, _OLD_KIND, 1) == 2


def _details(file: BinaryIO, directory: _Directory, tags: ImageFileDirectory_v2, unknown: int) -> Details:
    notes = [f"{unknown} of its channels, of no stated meaning, left out"] if unknown else []
    exif: bytes | None = None
    try:
        exif = _exif(file, directory, tags)
    except Exception:  # no reason to refuse the pixels
        notes.append("its EXIF data are damaged and left out")
    if any(tag in tags for tag in _IPTC):
        notes.append("its IPTC and Photoshop data are left out")
    if any(tag in tags for tag in _CALIBRATION) and _ICC not in tags:
        notes.append("its calibration of colors (primaries, white, curves) is left out")
    known = {*DESCRIPTIVE, *_IPTC, *_CALIBRATION, *_LAYOUT, _ICC, XMP, EXIF, GPS}
    if others := sorted({*tags} - known):
        names = ", ".join(f"{tag} {lookup(tag).name}".removesuffix(" unknown") for tag in others[:_NAMED])
        notes.append(f"its tags of other kinds are left out ({names}{', ...' * (len(others) > _NAMED)})")
    icc, wrong = fitting_profile(tags.get(_ICC), _SPACES.get(_one(tags, _PHOTOMETRIC, 1), b"RGB "))
    xmp = tags.get(XMP)
    return Details(
        icc=icc,
        exif=exif,
        xmp=xmp if isinstance(xmp, bytes) else None,
        dpi=_per_inch(tags),
        notes=(*notes, *wrong),
    )


def _per_inch(tags: ImageFileDirectory_v2) -> tuple[float, float] | None:
    unit, pair = _one(tags, RESOLUTION[2], 2), [tags.get(tag, 0) for tag in RESOLUTION[:2]]
    with contextlib.suppress(TypeError, ValueError):
        x, y = (float(value) * (2.54 if unit == 3 else 1) for value in pair)
        return (x, y) if unit in (2, 3) and min(x, y) > 0 and max(x, y) < math.inf else None
    return None


def _exif(file: BinaryIO, directory: _Directory, tags: ImageFileDirectory_v2) -> bytes | None:
    """EXIF data, without the tags about the layout of the file."""
    exif = Image.Exif()
    for tag in DESCRIPTIVE:
        if tag in tags and not _OF_LAYOUT.match(str(tags[tag])):
            exif[tag] = tags[tag]
    for tag in (EXIF, GPS):
        if tag in tags:
            file.seek(tags[tag])
            inner = directory(group=tag)
            inner.load(file)
            exif[tag] = {key: value for key, value in inner.items() if key != INTEROPERABILITY}
    return exif.tobytes() if len(exif) else None


def _directories(file: BinaryIO, name: str) -> tuple[_Directory, list[ImageFileDirectory_v2]]:
    """A maker of empty directories of this file's kind, and the directories of its pages."""
    file.seek(0)
    header = file.read(8)
    header += file.read(8) if b"+" in header[2:4] else b""
    # Pillow recognizes BigTIFF by the third byte, which is the fourth in big-endian order.
    known = b"II+\0" + header[4:] if header[:4] == b"MM\0+" else header
    directory = partial(ImageFileDirectory_v2, known, header[:2])
    found: list[ImageFileDirectory_v2] = []
    seen, tags = set[int](), directory()
    while (place := tags.next) and place not in seen:
        seen.add(place)
        file.seek(place)
        tags.load(file)
        found.append(tags)
        tags = directory()
        tags.next = found[-1].next
    if not found:
        raise ImageError(f"{name} is damaged: it has no directory")
    return directory, found


def _many(tags: ImageFileDirectory_v2, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    values = tags.get(tag, default)
    return tuple(values) if isinstance(values, tuple) else (values,)


def _one(tags: ImageFileDirectory_v2, tag: int, default: int) -> int:
    return (*_many(tags, tag), default)[0]


def _check_kind(tags: ImageFileDirectory_v2, name: str) -> None:
    bits, kinds = _many(tags, _BITS, (1,)), _many(tags, _SAMPLES, (1,))
    pair = (bits[0], 1 if kinds[0] == 4 else kinds[0])  # 4 is "undefined"
    if len({*bits}) > 1 or len({*kinds}) > 1 or pair not in _SUPPORTED:
        sizes = " and ".join(str(size) for size in sorted({*bits})[:_NAMED])
        raise ImageError(
            f"{name} has channels of {sizes} {_KINDS.get(kinds[0], 'unknown')} bits: convert it to gray or "
            "RGB with 8 or 16 bits or float"
        )
    photometric = _one(tags, _PHOTOMETRIC, 1)
    if photometric not in _COLORS:
        raise ImageError(f"{name} has colors of TIFF's kind {photometric}: convert it to gray or RGB first")
    if photometric == _PALETTE and bits[0] > 8:
        raise ImageError(f"{name} has a palette of {bits[0]} bits: convert it to RGB first")
    raw = photometric == _YCBCR and _one(tags, _COMPRESSION, 1) == 1
    if raw and {*_many(tags, _SUBSAMPLING, (2, 2))} != {1}:
        raise ImageError(f"{name} has subsampled YCbCr colors without compression: convert it to RGB first")


def _check_stored(tags: ImageFileDirectory_v2, height: int, width: int, size: int, name: str) -> None:
    """Refuse pixels that the file does not hold: decoders make them black."""
    count, apart = _one(tags, _CHANNELS, 1), _one(tags, _PLANAR, 1) == 2
    starts, lengths = _places(tags)
    if _TILES in tags:
        parts = math.ceil(width / max(1, _one(tags, 322, 0))) * math.ceil(height / max(1, _one(tags, 323, 0)))
    else:
        parts = math.ceil(height / max(1, _one(tags, _ROWS_PER_STRIP, height)))
    parts *= count if apart else 1
    cut = any(start + length > size for start, length in zip(starts, lengths, strict=False))
    if cut or len(starts) < parts or any(start >= size for start in starts):
        raise ImageError(f"{name} is damaged: it is cut short, or its directory is wrong")
    needed = height * math.ceil(width * _one(tags, _BITS, 1) * (1 if apart else count) / 8)
    needed *= count if apart else 1
    if _one(tags, _COMPRESSION, 1) == 1 and lengths and sum(lengths) < needed:
        raise ImageError(f"{name} is damaged: it holds {sum(lengths):,} of {needed:,} bytes of pixels")


def check_deflated(source: Path | bytes, name: str) -> None:
    """Refuse deflated pixels with a wrong checksum: decoders stop before they read it.

    Raises:
        ImageError: the checksum is wrong.
    """
    with opened(source) as file:
        _, (tags, *_) = _directories(file, name)
        if _one(tags, _COMPRESSION, 1) not in _DEFLATED or _one(tags, _BIT_ORDER, 1) != 1:
            return
        for start, length in zip(*_places(tags), strict=False):
            file.seek(start)
            stream, left = zlib.decompressobj(), length
            try:
                while not stream.eof and (data := file.read(min(left, _AT_ONCE))):
                    left -= len(data)
                    stream.decompress(data)
            except zlib.error as error:
                raise ImageError(f"{name} is damaged: its pixels are not those that were written") from error


def _places(tags: ImageFileDirectory_v2) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Offsets of strips or tiles, and their lengths in bytes."""
    if _TILES in tags:
        return _many(tags, _TILES), _many(tags, _TILE_BYTES)
    return _many(tags, _STRIPS), _many(tags, _STRIP_BYTES)


def add_tags(file: BinaryIO, *, exif: bytes | None, xmp: bytes | None, resolution: bool) -> None:
    """Add to a new TIFF of one page what its encoder left out, by a second directory at its end.

    Args:
        file: open for reading and writing.
        exif: EXIF data; their descriptions, EXIF and GPS directories are added.
        xmp: XMP data.
        resolution: whether to keep the resolution that the encoder wrote.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    large = struct.unpack(order + "H", head[2:4])[0] == 43
    # Formats of a number of entries, an entry and an offset.
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
    """Tags, their types, and their bytes, which are written at the offset that `place` returns."""
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
