"""HR images for training, in folders or LMDBs, and random patches of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmlt_arch.data.datasets.augmentation import Pixels, random_turn
from lmlt_arch.data.images import decode_image
from lmlt_arch.data.listing import DatasetError, image_list, list_images
from lmlt_arch.data.pairs import lmdb_keys


class HRImages:
    """The images of one or several folders or LMDBs.

    Args:
        dataroot: a folder, searched at any depth, or an LMDB folder, or a list of them.
        io_backend: `{type: disk}` (default) or `{type: lmdb}`, with further arguments for the LMDB.
        meta_info: for `disk`, a text file with an image's relative path at the start of each line, or a
            list with one for each root; default: every image found.

    Raises:
        ValueError: an option makes no sense.
        DatasetError: a root or a list of images does not exist, or has no images, or a listed one is not
            there.
    """

    def __init__(
        self,
        dataroot: str | Path | list[str | Path],
        *,
        io_backend: Mapping[str, Any] | None = None,
        meta_info: str | Path | list[str | Path] | None = None,
    ) -> None:
        roots = [dataroot] if isinstance(dataroot, (str, Path)) else dataroot
        self.roots = [str(Path(root).expanduser()) for root in roots]
        self._backend = dict(io_backend or {"type": "disk"})
        self._paths = self._list(meta_info)
        if not self._paths:
            raise DatasetError(f"there are no images in {', '.join(self.roots)}")
        # Opened at the first read, in the process that reads.
        self._client: Any = None

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> str:
        """The path or key of an image."""
        return self._paths[index][1]

    def name(self, index: int) -> str:
        """What to call an image in errors."""
        root, path = self._paths[index]
        return path if self._backend["type"] == "disk" else f"{path} in {root}"

    def read(self, index: int) -> Pixels:
        """The image as RGB of shape (h, w, 3), values 0..255.

        Raises:
            ImageError: it is damaged or of a kind that cannot be used; see `decode_image`.
            OSError: it cannot be read.
            KeyError: an LMDB lacks it.
        """
        return decode_image(self._bytes(*self._paths[index]), name=self.name(index))

    def _list(self, meta_info: str | Path | list[str | Path] | None) -> list[tuple[str, str]]:
        """Root and path (or key) of every image."""
        backend = self._backend.get("type")
        if backend == "lmdb":
            return [(root, key) for root in self.roots for key in lmdb_keys(Path(root))]
        if backend != "disk":
            raise ValueError(f"io_backend type must be disk or lmdb, not {backend}")
        infos: list[Any] = meta_info if isinstance(meta_info, list) else [meta_info]
        if meta_info is None:
            infos *= len(self.roots)
        if len(infos) != len(self.roots):
            raise ValueError(
                "the lists of images (meta_info) must be one file for each folder of dataroot_gt"
            )
        return [
            (root, str(Path(root, name)))
            for root, info in zip(self.roots, infos, strict=True)
            for name in _files_of(Path(root), info)
        ]

    def _bytes(self, root: str, path: str) -> bytes:
        if self._backend["type"] == "disk":
            return Path(path).read_bytes()
        if self._client is None:
            from basicsr.utils import FileClient

            named = ("type", "db_paths", "client_keys")
            options = {key: value for key, value in self._backend.items() if key not in named}
            self._client = FileClient("lmdb", db_paths=self.roots, client_keys=self.roots, **options)
        data: bytes | None = self._client.get(path, root)
        if data is None:
            raise KeyError(f"{root} has no image {path}, though its meta_info.txt names it")
        return data


def random_patch(pixels: Pixels, size: int, *, hflip: bool, rotate: bool) -> Pixels:
    """A random square of an image, flipped and rotated at random as BasicSR's `augment` does.

    An image smaller than that is extended by reflection, at the bottom and right. Random choices come from
    Python's `random`.

    Args:
        pixels: shape (h, w, c).
        size: side of the square.
        hflip: flip every other one horizontally.
        rotate: flip and transpose every other one.

    Returns:
        Shape (size, size, c); a view.
    """
    missing = [max(0, size - side) for side in pixels.shape[:2]]
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
    top, left = (random.randint(0, side - size) for side in pixels.shape[:2])
    pixels = pixels[top : top + size, left : left + size]
    return random_turn(hflip=hflip, rotate=rotate).of(pixels)


def _files_of(root: Path, info: str | Path | None) -> list[str]:
    """The relative paths of the images below a folder: all, or those that a meta info file lists."""
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root} (seen from {Path.cwd()}): fix the path")
    if (root / "data.mdb").is_file():
        raise DatasetError(f"{root} is an LMDB: write io_backend: type: lmdb")
    if info is None:
        return [str(name) for name in list_images(root)]
    # Lines are `path` or `path (h,w,c)`; a missing image raises when it is read.
    names = [line.rsplit(" (", 1)[0] for line in image_list(Path(info))]
    return [name for name in names if not name.startswith("#") or (root / name).is_file()]
