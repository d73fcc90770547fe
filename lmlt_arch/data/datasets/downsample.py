"""A BasicSR dataset of HR images, whose LR images are made while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from lmlt_arch.data.datasets.augmentation import Pixels
from lmlt_arch.data.datasets.common import channels, required
from lmlt_arch.data.datasets.hr_images import HRImages, random_patch
from lmlt_arch.data.images import ImageError


class DownsampleImageDataset(Dataset[dict[str, Any]]):
    """HR images with LR made by antialiased bicubic resizing of each crop (the ESC DFLIP training set).

    In the train phase an item is a random crop, flipped and rotated at random as BasicSR's `augment` does;
    in any other phase it is the whole image, cropped at the bottom and right to a multiple of the scale. An
    image smaller than the crop is extended by reflection. Random choices come from Python's `random`, which
    BasicSR seeds in its workers.

    LR is the crop resized by `torch.nn.functional.interpolate(mode="bicubic", antialias=True)` (kernel with
    a = -0.5, as MATLAB's), clamped to 0..1 and rounded to 8 bits like the LR files of benchmarks; with
    `quantize_lq: false` it is not rounded.

    Args:
        opt: BasicSR's options of a dataset:

            - `dataroot_gt`: a folder, searched at any depth, or an LMDB folder, or a list of them.
            - `io_backend`: `{type: disk}` (default) or `{type: lmdb}`.
            - `meta_info_file`: for `disk`, a text file with an image's relative path at the start of each
              line, or a list with one for each root; default: every image found.
            - `phase`: `train` or anything else.
            - `scale`: the downsampling factor.
            - `gt_size`: side of the crop, a multiple of the scale (train).
            - `use_hflip`, `use_rot`: flips and rotation (train; default: false).
            - `quantize_lq`: default: true.
            - `mean`, `std`: per channel, to normalize both images.

    Raises:
        ValueError: an option is missing or makes no sense, or there are no images.
        FileNotFoundError: a root does not exist.

    An item has `lq` of shape (3, h, w) and `gt` of shape (3, h * scale, w * scale), RGB float32 in 0..1,
    and the strings `lq_path` and `gt_path`, which are equal. Damaged images raise
    an `ImageError` with their name.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        owner = type(self).__name__
        self.scale = int(required(opt, "scale", owner=owner))
        self.train = required(opt, "phase", owner=owner) == "train"
        self.gt_size = int(required(opt, "gt_size", owner=owner)) if self.train else 0
        if self.gt_size % self.scale:
            raise ValueError(f"gt_size {self.gt_size} must be a multiple of the scale {self.scale}")
        self.images = HRImages(
            required(opt, "dataroot_gt", owner=owner),
            io_backend=opt.get("io_backend"),
            meta_info=opt.get("meta_info_file"),
        )
        self.mean = channels(opt.get("mean"), default=0.0)
        self.std = channels(opt.get("std"), default=1.0)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, pixels = self.images.path(index), self.images.read(index)
        pixels = self._crop_train(pixels) if self.train else self._crop_test(pixels, self.images.name(index))
        gt = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255
        lq = self._downsample(gt)
        return {
            "lq": (lq - self.mean) / self.std,
            "gt": (gt - self.mean) / self.std,
            "lq_path": path,
            "gt_path": path,
        }

    def _crop_train(self, pixels: Pixels) -> Pixels:
        hflip, rotate = bool(self.opt.get("use_hflip")), bool(self.opt.get("use_rot"))
        return random_patch(pixels, self.gt_size, hflip=hflip, rotate=rotate)

    def _crop_test(self, pixels: Pixels, name: str) -> Pixels:
        height, width = (side // self.scale * self.scale for side in pixels.shape[:2])
        if not height or not width:
            raise ImageError(
                f"{name} is {pixels.shape[1]}x{pixels.shape[0]}: too small for scale {self.scale}"
            )
        return pixels[:height, :width]

    def _downsample(self, gt: Tensor) -> Tensor:
        size = [side // self.scale for side in gt.shape[1:]]
        lq = F.interpolate(gt[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        return (lq * 255).round() / 255 if self.opt.get("quantize_lq", True) else lq
