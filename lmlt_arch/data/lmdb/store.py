"""LMDB folders as BasicSR reads them: `data.mdb`, `lock.mdb` and `meta_info.txt`."""

from __future__ import annotations

import mmap
import re
import shutil
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.listing import IMAGE_SUFFIXES, DatasetError, image_list
from lmlt_arch.data.lmdb.replacing import put_back, take_place
from lmlt_arch.files import OutputError, exclusive, lock_beside, make_folder

# Largest commit: its pages stay in memory until it is done.
COMMIT_BYTES = 64 << 20
# Room for the tree's root, the list of free pages and the pages that commits leave behind.
SPARE_BYTES = 4 << 20
BAND_ROWS = 32
"""Rows of an image that an LMDB of raw pixels keeps together (see `lmlt_arch.data.lmdb.raw`)."""
_RAW = f"uint8 {BAND_ROWS}"
# As numbers in keys have two bytes.
_MOST_BANDS = 2**16
_SIDE = re.compile(r"\s*[0-9]{1,7}\s*")
# Suffixes of names in `meta_info.txt`.
_STORED = IMAGE_SUFFIXES | {".raw"}
# One of the two records at the start of a data file (`MDB_meta` after a page's header of 16 bytes): magic
# number, version, address, size of the map, tree of free pages (which begins with the size of a page), tree
# of the rows, last page, transaction.
_META = struct.Struct("=16xIIQQI44x48xQQ")
_MAGIC = 0xBEEFC0DE


class StoreError(DatasetError):
    """An LMDB that cannot be used; the message names it and the reason."""


@dataclass(frozen=True, kw_only=True)
class LmdbImage:
    """One PNG file to be stored.

    Attributes:
        key: name without suffix: ASCII, no dot, no space (see `lmlt_arch.data.listing.flat_name`).
        path: the PNG file, whose bytes are stored as they are.
        shape: height, width and channels.
        size: the file's length in bytes.
    """

    key: str
    path: Path
    shape: tuple[int, int, int]
    size: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The rows of one image in an LMDB, sorted by key, and its line in `meta_info.txt`."""

    rows: list[tuple[bytes, bytes]]
    line: str


@dataclass(frozen=True, kw_only=True)
class LmdbInfo:
    """The content of `meta_info.txt`.

    Attributes:
        layout: PNG files as BasicSR has them, or raw pixels (see `lmlt_arch.data.lmdb.raw`).
        keys: the keys of all images, in the order of the file.
        shapes: height, width and channels of the images whose line has them, by key.
    """

    layout: Literal["png", "raw"]
    keys: list[str]
    shapes: dict[str, tuple[int, int, int]]


def write_lmdb(
    folder: Path, images: Sequence[LmdbImage], *, compression_level: int, advance: Callable[[], object]
) -> None:
    """Copy PNG files into a new LMDB folder, which replaces an older one once it is complete.

    Args:
        folder: the folder to make; BasicSR insists on a name that ends with `.lmdb`.
        images: the files, with distinct keys.
        compression_level: the PNG level to record in `meta_info.txt`.
        advance: called after each image, for a progress bar.

    Raises:
        OutputError: writing fails; nothing of the new folder remains then.
    """
    images = sorted(images, key=attrgetter("key"))
    entries = (
        Entry(
            rows=[(image.key.encode("ascii"), image.path.read_bytes())],
            line=f"{image.key}.png ({','.join(map(str, image.shape))}) {compression_level}",
        )
        for image in images
    )
    write_entries(folder, entries, [image.size for image in images], advance=advance)


def raw_entry(key: str, pixels: NDArray[np.uint8]) -> Entry:
    """The entry of an image of shape (h, w, 3) in an LMDB of raw pixels."""
    starts = range(0, len(pixels), BAND_ROWS)
    return Entry(
        rows=[(band_key(key, n), pixels[top : top + BAND_ROWS].tobytes()) for n, top in enumerate(starts)],
        line=f"{key}.raw ({','.join(map(str, pixels.shape))}) {_RAW}",
    )


def raw_sizes(height: int, width: int) -> list[int]:
    """The lengths in bytes of the values of an image in an LMDB of raw pixels."""
    return [min(BAND_ROWS, height - top) * width * 3 for top in range(0, height, BAND_ROWS)]


def band_key(key: str, number: int) -> bytes:
    """The key of a band of an image; these keys sort as those of the images."""
    return struct.pack(f">{len(key)}sxH", key.encode("ascii"), number)


def write_entries(
    folder: Path,
    entries: Iterable[Entry],
    sizes: Sequence[int],
    *,
    advance: Callable[[], object],
    replace: bool = True,
) -> None:
    """Write a new LMDB folder, which replaces an older one once it is complete.

    At every moment the older or the new folder exists, complete.

    Args:
        folder: the folder to make.
        entries: its content, sorted by key.
        sizes: the length of each value.
        advance: called after each entry, for a progress bar.
        replace: whether there may be an older one.

    Raises:
        OutputError: writing fails, or another process is writing the folder; nothing of the new one remains
            then.
    """
    import lmdb

    folder = folder.resolve()
    with exclusive(lock_beside(folder), f"process that writes {folder}", "wait until it has ended"):
        temporary = folder.with_name(f".{folder.name}.tmp")
        try:
            put_back(folder)
            if folder.exists() and not (replace and folder.is_dir()):
                raise FileExistsError("it is there already")
            shutil.rmtree(temporary, ignore_errors=True)
            make_folder(temporary)
            lines: list[str] = []
            _check_space(temporary, sum(sizes))
            with lmdb.open(str(temporary), map_size=_map_size(sizes)) as environment:
                _fill(environment, entries, lines, advance)
            (temporary / "meta_info.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
            take_place(temporary, folder)
        except (OSError, lmdb.Error) as error:
            raise OutputError(f"cannot write {folder}: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_space(folder: Path, needed: int) -> None:
    """Refuse a full disk beforehand: LMDB would report an input/output error."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"it needs {needed >> 20} MiB, but {free >> 20} MiB are free")


def _fill(
    environment: Any, entries: Iterable[Entry], lines: list[str], advance: Callable[[], object]
) -> None:
    transaction = environment.begin(write=True)
    try:
        pending = 0
        for entry in entries:
            for key, value in entry.rows:
                # Keys come sorted, so pages are filled one after the other and never split.
                transaction.put(key, value, append=True)
                pending += len(value)
            lines.append(entry.line)
            if pending >= COMMIT_BYTES:
                transaction.commit()
                transaction = environment.begin(write=True)
                pending = 0
            advance()
    except BaseException:
        transaction.abort()
        raise
    transaction.commit()


def _map_size(sizes: Sequence[int]) -> int:
    """The most bytes that values of these sizes can take: whole pages, and a page each for the tree."""
    page = mmap.PAGESIZE
    return SPARE_BYTES + sum((size // page + 3) * page for size in sizes)


def check_is_whole(folder: Path) -> None:
    """Refuse an LMDB whose data file is shorter than its header says.

    To be called before opening: LMDB reads through a memory map, and behind the end of the file the system
    kills the process. A file that is no LMDB passes; LMDB itself refuses it.

    Args:
        folder: the LMDB folder, or the data file itself.

    Raises:
        StoreError: it was not copied completely.
    """
    file = folder / "data.mdb" if folder.is_dir() else folder
    if not file.is_file():
        return
    size = file.stat().st_size
    with file.open("rb") as data:
        records = [data.read(_META.size)]
        if len(records[0]) < _META.size:
            return
        magic, _, _, _, page, *_ = _META.unpack(records[0])
        if magic != _MAGIC:
            return
        data.seek(page)
        records.append(data.read(_META.size))
    # The two records alternate; the one of the later transaction is valid.
    ends = (_META.unpack(record)[-2:] for record in records if len(record) == _META.size)
    last, _ = max(ends, key=itemgetter(1))
    whole = (last + 1) * page
    if size < whole:
        raise StoreError(f"{file} is cut off: {size} bytes of {whole}. Copy it again, or make it again")


def read_lmdb_info(folder: Path) -> LmdbInfo:
    """Read the `meta_info.txt` of an LMDB folder.

    Dots inside a key are kept; BasicSR cuts it at the first one.

    Raises:
        FileNotFoundError: the folder has no `meta_info.txt`.
        StoreError: it is no text, or its lines of raw pixels are damaged.
    """
    info = folder / "meta_info.txt"
    if not info.is_file():
        raise FileNotFoundError(f"{folder} is not an LMDB folder made for BasicSR: it has no meta_info.txt")
    layout: Literal["png", "raw"] = "png"
    keys: list[str] = []
    shapes: dict[str, tuple[int, int, int]] = {}
    stored = (folder / "data.mdb").stat().st_size if (folder / "data.mdb").is_file() else None
    for line in _lines(info):
        name, _, rest = line.rpartition(" (")
        stem, dot, suffix = (name or rest).rpartition(".")
        keys.append(stem if dot and f".{suffix.lower()}" in _STORED else name or rest)
        sides = rest.partition(")")[0].split(",") if name else []
        if len(sides) == 3 and all(_SIDE.fullmatch(side) for side in sides):
            shapes[keys[-1]] = (int(sides[0]), int(sides[1]), int(sides[2]))
        if name.endswith(".raw"):
            layout = "raw"
            if keys[-1] not in shapes or rest.partition(")")[2].strip() != _RAW:
                raise StoreError(
                    f"{info}: {line!r:.200} does not end in '(height,width,3) {_RAW}': make it again"
                )
            if not keys[-1].isascii():
                raise StoreError(f"{info}: {line!r:.200} begins with no key: make it again")
            if not _fits(shapes[keys[-1]], stored):
                raise StoreError(f"{info}: {line!r:.200} is no size of an image in data.mdb: make it again")
    return LmdbInfo(layout=layout, keys=keys, shapes=shapes)


def _fits(shape: tuple[int, int, int], stored: int | None) -> bool:
    """Whether raw pixels of a shape fit into a file of `stored` bytes, if its size is known."""
    height, width, channels = shape
    size = height * width * channels
    return channels == 3 and 0 < size <= (stored or size) and height <= _MOST_BANDS * BAND_ROWS


def _lines(info: Path) -> list[str]:
    try:
        return image_list(info)
    except DatasetError as error:
        raise StoreError(str(error)) from error


def read_lmdb_keys(folder: Path) -> list[str]:
    """The keys of an LMDB folder of PNG files, in the order of its `meta_info.txt`.

    Raises:
        FileNotFoundError: the folder has no `meta_info.txt`.
        StoreError: it holds raw pixels, or was not copied completely.
    """
    info = read_lmdb_info(folder)
    if info.layout == "raw":
        raise StoreError(f"{folder} holds raw pixels, which only type: PairedCropDataset reads")
    check_is_whole(folder)
    return info.keys
