"""LMDB folders of raw pixels, from which a crop is read without the rest of its image.

A value is a band of 32 rows of an image as it lies in memory: RGB, 8 bits per channel, no header and no
compression. (The Python binding of LMDB touches all of a value that it looks up, so images are cut.) Its key
is that of the image, a zero, and the number of the band in two bytes. `meta_info.txt` has one line per
image, with shape, type and rows of a band: `0001_s001.raw (480,480,3) uint8 32`.
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
    """The images of a raw LMDB. Forked or spawned workers open it themselves.

    Args:
        folder: the LMDB folder.

    Attributes:
        shapes: height, width and channels of each image, by its key.

    Raises:
        FileNotFoundError: there is no such LMDB.
        StoreError: it holds PNG files, or it was not copied completely.
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
        check_is_whole(folder)  # also if it is open already
        try:
            environments.get(str(folder), READING)
        except lmdb.Error as error:
            raise StoreError(f"{folder} cannot be read as LMDB ({error}): make it again") from error

    def copy(self, key: str, top: int, left: int, target: Pixels) -> None:
        """Copy a part of an image; besides it, only the other columns of its bands are read.

        Args:
            key: the image's key.
            top: its first row.
            left: its first column.
            target: the destination, of the shape of the part, (h, w, 3).

        Raises:
            ImageError: the image is missing, or the number of its bytes does not fit its shape.
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
            ImageError: see `copy`.
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
