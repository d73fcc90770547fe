"""A BasicSR dataset of pairs in raw LMDBs, from which crops are read without the rest of the images."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmlt_arch.data.datasets.augmentation import Turn, random_turn
from lmlt_arch.data.datasets.common import channels, required, unit_range
from lmlt_arch.data.images import ImageError
from lmlt_arch.data.lmdb.raw import RawLmdb
from lmlt_arch.data.lmdb.store import StoreError
from lmlt_arch.data.pairs import Matched, match_names, unmatched

_UNTURNED = Turn(mirror=False, upside_down=False, transpose=False)


class PairedCropDataset(Dataset[dict[str, Any]]):
    """BasicSR's `PairedImageDataset` on LMDBs of raw pixels: the same samples, many times as fast.

    In the train phase an item is a random crop, flipped and rotated at random; in any other phase it is the
    whole image. For the same state of Python's `random` it equals that of `PairedImageDataset`, bit for bit.

    Args:
        opt: BasicSR's options of a dataset:

            - `dataroot_gt`, `dataroot_lq`: the LMDB folders, made by `lmlt raw` or
              `lmlt prepare --raw`.
            - `io_backend`: `{type: lmdb}`.
            - `phase`: `train` or anything else.
            - `scale`: how much larger ground truth is.
            - `gt_size`: side of the crop of ground truth, a multiple of the scale (train).
            - `use_hflip`, `use_rot`: flips and rotation (train; default: false).
            - `mean`, `std`: per channel, to normalize both images.

    Raises:
        ValueError: an option is missing or makes no sense.
        FileNotFoundError: an LMDB does not exist.
        StoreError: an LMDB is of PNG files or cut off, or the two do not have the same images.
        ImageError: the sizes of a pair do not match, or an image is smaller than the crop.

    An item has `lq` of shape (3, h, w) and `gt` of shape (3, h * scale, w * scale), RGB float32 in 0..1,
    and the strings `lq_path` and `gt_path`: the image's key.

    Attributes:
        as_bytes: give uint8 in 0..255 instead, a quarter of the memory to transfer; not with `mean` and
            `std`. Our models set it, and convert to floats on their device.
    """

    as_bytes = False

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        owner = type(self).__name__
        if (opt.get("io_backend") or {}).get("type") != "lmdb":
            raise ValueError(f"{owner} reads LMDBs of raw pixels only: it needs io_backend: type: lmdb")
        if opt.get("color") is not None:
            raise ValueError(f"{owner} knows no color: take PairedImageDataset for luma")
        self.scale = int(required(opt, "scale", owner=owner))
        self.train = required(opt, "phase", owner=owner) == "train"
        gt_size = int(required(opt, "gt_size", owner=owner)) if self.train else 0
        if gt_size % self.scale:
            raise ValueError(f"gt_size {gt_size} must be a multiple of the scale {self.scale}")
        self.lq_size = gt_size // self.scale
        self.gt, self.lq = (
            RawLmdb(Path(required(opt, key, owner=owner)).expanduser())
            for key in ("dataroot_gt", "dataroot_lq")
        )
        # Sorted, as BasicSR has them: an index is the same pair.
        found = match_names(self.gt.shapes, self.lq.shapes)
        self.paths = [{"lq_path": lq, "gt_path": gt} for gt, lq in sorted(found.pairs)]
        self._check_pairs(found)
        self.mean = channels(opt.get("mean"), default=0.0)
        self.std = channels(opt.get("std"), default=1.0)
        self._normalizes = opt.get("mean") is not None or opt.get("std") is not None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.paths[index]
        height, width = self.lq.shapes[pair["lq_path"]][:2]
        top, left, turn = 0, 0, _UNTURNED
        if self.train:
            top, left = (random.randint(0, side - self.lq_size) for side in (height, width))
            turn = random_turn(hflip=bool(self.opt.get("use_hflip")), rotate=bool(self.opt.get("use_rot")))
            height = width = self.lq_size
        return {
            "lq": self._crop(self.lq, pair["lq_path"], (top, left, height, width), turn),
            "gt": self._crop(
                self.gt, pair["gt_path"], [number * self.scale for number in (top, left, height, width)], turn
            ),
            **pair,
        }

    def _crop(self, store: RawLmdb, key: str, window: Iterable[int], turn: Turn) -> Tensor:
        """A turned copy of a window, (3, h, w), as floats in 0..1 unless `as_bytes`."""
        top, left, height, width = window
        planes = np.empty((3, width, height) if turn.transpose else (3, height, width), np.uint8)
        store.copy(key, top, left, turn.undone(planes.transpose(1, 2, 0)))
        image = torch.from_numpy(planes)
        if self._normalizes:
            return unit_range(image).sub_(self.mean).div_(self.std)
        return image if self.as_bytes else unit_range(image)

    def _check_pairs(self, found: Matched) -> None:
        gt_keys, lq_keys = self.gt.shapes, self.lq.shapes
        if found.gt_alone or found.lq_alone or not self.paths:
            homes = self.gt.folder, self.lq.folder
            raise StoreError(unmatched(found, homes, None, gt=gt_keys, lq=lq_keys))
        for pair in self.paths:
            key = pair["gt_path"]
            gt, (height, width, _) = gt_keys[key], lq_keys[pair["lq_path"]]
            fits = gt[:2] == (height * self.scale, width * self.scale)
            if not self.train:  # ground truth is cropped then
                fits = gt[0] // self.scale >= height and gt[1] // self.scale >= width
            if not fits:
                raise ImageError(
                    f"{key}: ground truth in {self.gt.folder} is {gt[1]}x{gt[0]}, in {self.lq.folder} it is "
                    f"{width}x{height}: ground truth must be {self.scale} times as wide and high (the scale)"
                )
            if min(height, width) < self.lq_size:
                raise ImageError(
                    f"{key} in {self.gt.folder} is {gt[1]}x{gt[0]} pixels, smaller than gt_size, "
                    f"{self.lq_size * self.scale}: leave it out or lower gt_size"
                )
