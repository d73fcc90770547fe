"""LMDB folders of raw pixels, from which a crop is read without the rest of its image.

A value is an image as it lies in memory: rows of RGB, 8 bits per channel, no header and no compression. Its
shape stands in ``meta_info.txt``, one line per image: ``0001_s001.raw (480,480,3) uint8``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.images import ImageError
from lmlt_arch.data.lmdb_environments import READING, environments
from lmlt_arch.data.lmdb_store import StoreError, read_lmdb_info

Pixels = NDArray[np.uint8]


class RawLmdb:
    """The images of a raw LMDB. Workers that it is copied to, forked or spawned, open it for themselves.

    Args:
        folder: the LMDB folder.

    Attributes:
        shapes: Height, width and channels of each image, by its key.

    Raises:
        FileNotFoundError: there is no such LMDB.
        StoreError: it holds PNG files, or it was not copied whole.
    """

    def __init__(self, folder: Path) -> None:
        import lmdb

        self.folder = folder
        info = read_lmdb_info(folder)
        if info.layout != "raw":
            raise StoreError(
                f"{folder} holds PNG files, not raw pixels: make a raw LMDB of it by `lmlt raw {folder}`, or "
                "read it by type: PairedImageDataset"
            )
        self.shapes = info.shapes
        file = folder / "data.mdb"
        if not file.is_file():
            raise FileNotFoundError(f"{folder} has no data.mdb: it was not copied whole")
        try:
            environment = environments.get(str(folder), READING)
        except lmdb.Error as error:
            raise StoreError(f"{folder} cannot be read as LMDB ({error}): make it anew") from error
        # Behind the end of the file, the memory map would kill the process.
        whole = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if file.stat().st_size < whole:
            raise StoreError(
                f"{file} is cut off: {file.stat().st_size} bytes of {whole}. Copy it again, or make it anew"
            )

    @contextmanager
    def viewing(self, key: str) -> Iterator[Pixels]:
        """An image of shape (h, w, 3), without reading it: valid, and readable only, inside the block.

        Raises:
            ImageError: it is not there, or its bytes are not as many as its shape needs.
        """
        import lmdb

        try:
            with environments.get(str(self.folder), READING).begin(buffers=True) as transaction:
                data = transaction.get(key.encode())
                yield self._as_image(key, data)
        except lmdb.Error as error:
            raise ImageError(f"{key} in {self.folder} is damaged: {error}") from error

    def _as_image(self, key: str, data: memoryview | None) -> Pixels:
        if data is None:
            raise ImageError(f"{key} is not in {self.folder}, though its meta_info.txt names it")
        shape = self.shapes[key]
        if len(data) != math.prod(shape):
            raise ImageError(
                f"{key} in {self.folder} is damaged: it has {len(data)} bytes, and {shape[1]}x{shape[0]} "
                f"pixels are {math.prod(shape)}"
            )
        return np.frombuffer(data, np.uint8).reshape(shape)
