"""LMDB folders of raw pixels, from which a crop is read without the rest of its image.

A value is a band of 32 rows of an image as it lies in memory: RGB, 8 bits per channel, no header and no
compression. (The Python binding of LMDB touches all of a value that it looks up, so images are cut.) Its key
is that of the image, a zero, and the number of the band in two bytes. ``meta_info.txt`` has one line per
image, with shape, type and rows of a band: ``0001_s001.raw (480,480,3) uint8 32``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.images import ImageError
from lmlt_arch.data.lmdb.environments import READING, environments
from lmlt_arch.data.lmdb.store import BAND_ROWS, StoreError, band_key, check_is_whole, read_lmdb_info

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
        if not (folder / "data.mdb").is_file():
            raise FileNotFoundError(f"{folder} has no data.mdb: it was not copied whole")
        check_is_whole(folder)  # also one that is open by now
        try:
            environments.get(str(folder), READING)
        except lmdb.Error as error:
            raise StoreError(f"{folder} cannot be read as LMDB ({error}): make it anew") from error

    def copy(self, key: str, top: int, left: int, target: Pixels) -> None:
        """Copy a part of an image; of the rest, nothing but the other columns of its bands is read.

        Args:
            key: the image's key.
            top: its first row.
            left: its first column.
            target: where to put it, of the shape of the part, (h, w, 3).

        Raises:
            ImageError: the image is not there, or its bytes are not as many as its shape needs.
        """
        import lmdb

        bottom = top + target.shape[0]
        columns = slice(left, left + target.shape[1])
        try:
            with environments.get(str(self.folder), READING).begin(buffers=True) as transaction:
                for number in range(top // BAND_ROWS, -(-bottom // BAND_ROWS)):
                    first = number * BAND_ROWS
                    band = self._band(key, number, transaction.get(band_key(key, number)))
                    rows = slice(max(top, first), min(bottom, first + BAND_ROWS))
                    part = band[rows.start - first : rows.stop - first, columns]
                    target[rows.start - top : rows.stop - top] = part
        except lmdb.Error as error:
            raise ImageError(f"{key} in {self.folder} is damaged: {error}") from error

    def read(self, key: str) -> Pixels:
        """A whole image, (h, w, 3).

        Raises:
            ImageError: as of `copy`.
        """
        pixels = np.empty(self.shapes[key], np.uint8)
        self.copy(key, 0, 0, pixels)
        return pixels

    def _band(self, key: str, number: int, data: memoryview | None) -> Pixels:
        height, width, channels = self.shapes[key]
        shape = min(BAND_ROWS, height - number * BAND_ROWS), width, channels
        if data is None:
            raise ImageError(
                f"{key} is not whole in {self.folder}: rows from {number * BAND_ROWS} are missing"
            )
        if len(data) != math.prod(shape):
            raise ImageError(
                f"{key} in {self.folder} is damaged: {shape[0]} rows of {width} pixels are "
                f"{math.prod(shape)} bytes, but there are {len(data)}"
            )
        return np.frombuffer(data, np.uint8).reshape(shape)
