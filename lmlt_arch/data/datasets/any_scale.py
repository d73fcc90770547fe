"""A BasicSR dataset of HR images for any-scale networks: LR is made at scales sampled while training."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lmlt_arch.data.datasets.augmentation import Pixels
from lmlt_arch.data.datasets.hr_images import HRImages, random_patch
from lmlt_arch.data.images import ImageError
from lmlt_arch.data.imresize import imresize

DEFAULT_LQ_SIZE = 64
DEFAULT_SCALES = (1.0, 4.0)


class ArbitraryScaleDataset(Dataset[dict[str, Any]]):
    """HR images with LR made by MATLAB's bicubic resizing, at a scale that differs from batch to batch.

    In the train phase a scale is sampled for each batch, uniformly; all images of the batch, on all
    processes, have it, so that they are one tensor (as in arXiv 2111.08918). An item is a random square of
    `round(lq_size * scale)` pixels, flipped and transposed at random, and the same resized to `lq_size`.
    An image smaller than the square is extended by reflection.

    In any other phase it is the whole image, cropped at the bottom and right to the size that the scale
    `at_scale` makes of a whole number of LR pixels; for whole scales these are the pairs of benchmarks.

    Args:
        opt: BasicSR's options of a dataset:

            - `dataroot_gt`, `io_backend`, `meta_info_file`: as for `DownsampleImageDataset`.
            - `phase`: `train` or anything else.
            - `lq_size`: side of the LR crops (train; default: 64).
            - `scales`: smallest and largest scale (train; default: [1, 4]).
            - `non_square`: share of the batches in which the horizontal scale is sampled apart from the
              vertical one (train; default: 0, as published).
            - `at_scale`: one number, or the vertical and the horizontal one (other phases; default: the
              option file's `scale`).
            - `use_hflip`, `use_rot`: flips and transposition (train; default: false).

    Raises:
        ValueError: an option is missing or makes no sense, or there are no images.
        FileNotFoundError: a root does not exist.

    An item has `lq` of shape (3, h, w) and `gt` of shape (3, H, W), RGB float32 in 0..1, and the strings
    `lq_path` and `gt_path`, which are equal. Damaged images raise
    an `ImageError` with their name.

    Attributes:
        batch_seed: seed of the scale; set for each sample by `SeededDataset`.
        at_scale: vertical and horizontal scale outside of the train phase.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self.train = opt.get("phase") == "train"
        if not opt.get("dataroot_gt"):
            raise ValueError("ArbitraryScaleDataset needs the option dataroot_gt")
        self.images = HRImages(
            opt["dataroot_gt"], io_backend=opt.get("io_backend"), meta_info=opt.get("meta_info_file")
        )
        self.lq_size = int(opt.get("lq_size") or DEFAULT_LQ_SIZE)
        self.scales = _two(opt.get("scales") or DEFAULT_SCALES)
        self.at_scale = _two(opt.get("at_scale") or opt.get("scale") or 1)
        if self.scales[0] > self.scales[1]:
            raise ValueError(f"scales: must be the smallest and the largest one, not {[*self.scales]}")
        self.non_square = float(opt.get("non_square") or 0)
        self.batch_seed: int | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, pixels = self.images.path(index), self.images.read(index)
        gt, lq = self._training_pair(pixels) if self.train else self._pair(pixels, self.images.name(index))
        return {"lq": _tensor(lq), "gt": _tensor(gt), "lq_path": path, "gt_path": path}

    def _training_pair(self, pixels: Pixels) -> tuple[Pixels, Pixels]:
        height, width = (round(self.lq_size * scale) for scale in self._sampled_scales())
        hflip, rotate = bool(self.opt.get("use_hflip")), bool(self.opt.get("use_rot"))
        square = random_patch(pixels, max(height, width), hflip=hflip, rotate=rotate)
        gt = np.ascontiguousarray(square[:height, :width])
        return gt, imresize(gt, size=(self.lq_size, self.lq_size))

    def _sampled_scales(self) -> tuple[float, float]:
        """The vertical and the horizontal scale of the batch."""
        low, high = self.scales
        # Without a seed (the batch that `lmlt check` shows) all samples have the middle of the range.
        if self.batch_seed is None:
            return (low + high) / 2, (low + high) / 2
        generator = random.Random(self.batch_seed)
        down = across = generator.uniform(low, high)
        if generator.random() < self.non_square:
            across = generator.uniform(low, high)
        return down, across

    def _pair(self, pixels: Pixels, name: str) -> tuple[Pixels, Pixels]:
        sizes = [int(side / scale + 1e-6) for side, scale in zip(pixels.shape, self.at_scale, strict=False)]
        if not all(sizes):
            raise ImageError(
                f"{name} is {pixels.shape[1]}x{pixels.shape[0]}: too small for scale {self.at_scale}"
            )
        height, width = (round(size * scale) for size, scale in zip(sizes, self.at_scale, strict=True))
        gt = np.ascontiguousarray(pixels[:height, :width])
        return gt, imresize(gt, size=(sizes[0], sizes[1]))


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255


def _two(value: Any) -> tuple[float, float]:
    """Two scales, from one or two numbers."""
    values = [*value] if isinstance(value, (list, tuple)) else [value, value]
    if len(values) != 2 or not all(float(number) >= 1 for number in values):
        raise ValueError(f"a scale is a number of at least 1, or two of them; got {value}")
    return float(values[0]), float(values[1])
