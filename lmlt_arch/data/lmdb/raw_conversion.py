"""Conversion of folders and LMDBs of images to LMDBs of raw pixels (see `lmlt_arch.data.lmdb.raw`)."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lmlt_arch.data.images import ImageError, decode_image
from lmlt_arch.data.listing import flat_name, list_images
from lmlt_arch.data.lmdb.environments import READING, environments
from lmlt_arch.data.lmdb.store import Entry, raw_entry, raw_sizes, read_lmdb_keys, write_entries
from lmlt_arch.errors import UsageError
from lmlt_arch.threads import in_pool


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """An image to be stored as pixels.

    Attributes:
        key: its key in the LMDB.
        name: its name in errors.
        read: returns the bytes of its file.
    """

    key: str
    name: str
    read: Callable[[], bytes]


def find_images(source: Path, *, filename_tmpl: str = "{}") -> list[EncodedImage]:
    """The images of a folder, searched at any depth, or of an LMDB of PNG files.

    Args:
        source: the folder.
        filename_tmpl: as in BasicSR's options: how low quality images are named after their ground truth,
            such as `{}x4`. They get the key of their ground truth.

    Raises:
        UsageError: there are none, two would get one key, or a name is not as the template says.
        StoreError: the LMDB is damaged, or holds raw pixels.
        FileNotFoundError: there is no such folder.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"no such folder: {source}")
    if (source / "data.mdb").is_file():
        keys = dict.fromkeys(read_lmdb_keys(source))
        if not keys:
            raise UsageError(f"no images in {source}: its meta_info.txt lists none")
        return [
            EncodedImage(key=key, name=f"{key} in {source}", read=partial(_read_lmdb, source, key))
            for key in keys
        ]
    before, brace, after = filename_tmpl.partition("{}")
    if not brace:
        raise UsageError(f"--filename-tmpl must contain {{}}, such as '{{}}x4'; got {filename_tmpl!r}")
    images: dict[str, EncodedImage] = {}
    for relative in list_images(source):
        path = source / relative
        if not (relative.stem.startswith(before) and relative.stem.endswith(after)):
            raise UsageError(f"{path} is not named as --filename-tmpl {filename_tmpl!r} says")
        stem = relative.stem[len(before) : len(relative.stem) - len(after)]
        key = flat_name(relative.with_name(f"{stem}{relative.suffix}"))
        if key in images:
            raise UsageError(f"{images[key].name} and {path} would both be stored as {key}: rename one")
        images[key] = EncodedImage(key=key, name=str(path), read=path.read_bytes)
    if not images:
        raise UsageError(f"no images in {source}")
    return [*images.values()]


def write_raw_lmdb(
    folder: Path,
    images: Sequence[EncodedImage],
    *,
    workers: int,
    advance: Callable[[], object],
    replace: bool = True,
) -> None:
    """Decode images into a new raw LMDB, which replaces an older one once it is complete.

    Args:
        folder: the folder to make; its name ends with `.lmdb`.
        images: the images, with distinct keys.
        workers: threads that decode.
        advance: called after each image, for a progress bar.
        replace: whether there may be an older one.

    Raises:
        ImageError: an image cannot be used.
        OutputError: the LMDB cannot be written. In both cases nothing of the new folder remains.
    """
    images = sorted(images, key=attrgetter("key"))
    sizes = [size for image in images for size in raw_sizes(*_sides(image))]
    with closing(_decoded(images, max(1, workers))) as entries:
        write_entries(folder, entries, sizes, advance=advance, replace=replace)


def _sides(image: EncodedImage) -> tuple[int, int]:
    """Both sides by the header, the longer one first: the orientation may swap them."""
    try:
        with Image.open(io.BytesIO(image.read())) as file:
            return max(file.size), min(file.size)
    except Exception as error:
        # Decoders raise nearly anything when fed with damaged data.
        raise ImageError(f"{image.name} is damaged or not an image: {error}") from error


def _decoded(images: Iterable[EncodedImage], workers: int) -> Generator[Entry, None, None]:
    """The entries, in order; at most `2 * workers` images are decoded ahead and in memory."""
    with closing(in_pool(ThreadPoolExecutor(workers), _decode, images, 2 * workers)) as decoded:
        for key, pixels in decoded:
            yield raw_entry(key, pixels)


def _decode(image: EncodedImage) -> tuple[str, NDArray[np.uint8]]:
    """The key and the pixels of an image."""
    return image.key, decode_image(image.read(), name=image.name)


def _read_lmdb(folder: Path, key: str) -> bytes:
    with environments.get(str(folder), READING).begin() as transaction:
        data: bytes | None = transaction.get(key.encode())
    if data is None:
        raise ImageError(f"{key} is not in {folder}, though its meta_info.txt names it")
    return data
