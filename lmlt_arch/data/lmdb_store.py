"""LMDB folders as BasicSR reads them: ``data.mdb``, ``lock.mdb`` and ``meta_info.txt``."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from lmlt_arch.files import OutputError, make_folder

# What one commit may hold: its pages stay in memory until it is done.
COMMIT_BYTES = 64 << 20
# Room for the tree's root, the list of free pages and the pages that commits leave behind.
SPARE_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class LmdbImage:
    """One PNG file to be stored.

    Attributes:
        key: Name without suffix: ASCII, no dot, no space (see :func:`lmlt_arch.data.files.flat_name`).
        path: The PNG file, whose bytes are stored as they are.
        shape: Height, width and channels.
        size: The file's length in bytes.
    """

    key: str
    path: Path
    shape: tuple[int, int, int]
    size: int


def write_lmdb(
    folder: Path, images: Sequence[LmdbImage], *, compression_level: int, advance: Callable[[], object]
) -> None:
    """Copy PNG files into a new LMDB folder, which takes the place of an older one once it is complete.

    Args:
        folder: The folder to make; BasicSR insists on a name that ends with ``.lmdb``.
        images: The files, with distinct keys.
        compression_level: The PNG level to record in ``meta_info.txt``.
        advance: Called after each image, for a progress bar.

    Raises:
        OutputError: If that fails; nothing of the new folder remains then.
    """
    import lmdb

    images = sorted(images, key=attrgetter("key"))
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        _check_space(temporary, images)
        with lmdb.open(str(temporary), map_size=_map_size(images)) as environment:
            _fill(environment, images, advance)
        lines = [f"{i.key}.png ({','.join(map(str, i.shape))}) {compression_level}\n" for i in images]
        (temporary / "meta_info.txt").write_text("".join(lines), encoding="ascii")
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except (OSError, lmdb.Error) as error:
        raise OutputError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_space(folder: Path, images: Iterable[LmdbImage]) -> None:
    """Tell beforehand what LMDB would call an input/output error."""
    needed, free = sum(image.size for image in images), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"it needs {needed >> 20} MiB, but {free >> 20} MiB are free")


def _fill(environment: Any, images: Iterable[LmdbImage], advance: Callable[[], object]) -> None:
    transaction = environment.begin(write=True)
    try:
        pending = 0
        for image in images:
            # Keys come sorted, so pages are filled one after the other and never split.
            transaction.put(image.key.encode("ascii"), image.path.read_bytes(), append=True)
            pending += image.size
            if pending >= COMMIT_BYTES:
                transaction.commit()
                transaction = environment.begin(write=True)
                pending = 0
            advance()
    except BaseException:
        transaction.abort()
        raise
    transaction.commit()


def _map_size(images: Iterable[LmdbImage]) -> int:
    """The most bytes that these images can take: whole pages each, and one page each for the tree."""
    page = mmap.PAGESIZE
    return SPARE_BYTES + sum((image.size // page + 3) * page for image in images)


def read_lmdb_keys(folder: Path) -> list[str]:
    """The keys of an LMDB folder, in the order of its ``meta_info.txt``.

    Unlike BasicSR, which cuts at the first dot, this keeps the dots inside a key.

    Raises:
        FileNotFoundError: If the folder has no ``meta_info.txt``.
    """
    info = folder / "meta_info.txt"
    if not info.is_file():
        raise FileNotFoundError(f"{folder} is not an LMDB folder made for BasicSR: it has no meta_info.txt")
    lines = info.read_text(encoding="utf-8").splitlines()
    return [line.rsplit(" (", 1)[0].removesuffix(".png") for line in lines if line.strip()]
