"""A BasicSR dataset of good photographs alone; the model makes their LQ images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset

from lmlt_arch.data.datasets.hr_images import HRImages, random_patch

# BasicSR's RealESRGANDataset crops to this size, always.
CROP_PAD_SIZE = 400


class HQImageDataset(Dataset[dict[str, Any]]):
    """Photographs from folders of one's own, for models that degrade them.

    In the train phase an item is a random crop, flipped and rotated at random; in any other phase it is the
    whole image. An image smaller than the crop is extended by reflection. Random choices come from Python's
    ``random``, which BasicSR seeds in its workers. Nothing else of BasicSR's ``RealESRGANDataset`` is needed:
    the keys of its blur kernels may stand in the same section, but are the model's.

    Args:
        opt: BasicSR's options of a dataset:

            - ``dataroot_gt``: a folder, searched at any depth, or an LMDB folder, or a list of them.
            - ``io_backend``: ``{type: disk}`` (default) or ``{type: lmdb}``.
            - ``meta_info``: for ``disk``, a text file with an image's relative path at the start of each
              line, or a list with one for each root; default: every image found.
            - ``phase``: ``train`` or anything else.
            - ``scale``: of the model; the crop must be a multiple of it (train; default: 1).
            - ``crop_pad_size``: side of the crop (train; default: 400, as in BasicSR, or the
              next lower multiple of the scale).
            - ``use_hflip``, ``use_rot``: flips and rotation (train; default: false).

    Raises:
        ValueError: if an option is missing or makes no sense, or there are no images.
        FileNotFoundError: if a root does not exist.

    An item has ``gt`` of shape (3, h, w), RGB float32 in 0..1, and the string ``gt_path``. Damaged images
    raise :class:`~lmlt_arch.data.images.ImageError` with their name.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        for key in ("dataroot_gt", "phase"):
            if opt.get(key) is None:
                raise ValueError(f"HQImageDataset needs the option {key}")
        self.train = opt["phase"] == "train"
        scale = int(opt.get("scale") or 1)
        self.crop_pad_size = int(opt.get("crop_pad_size") or CROP_PAD_SIZE // scale * scale)
        if self.train and self.crop_pad_size % scale:
            raise ValueError(f"crop_pad_size {self.crop_pad_size} must be a multiple of the scale {scale}")
        self.images = HRImages(
            opt["dataroot_gt"], io_backend=opt.get("io_backend"), meta_info=opt.get("meta_info")
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels = self.images.read(index)
        if self.train:
            hflip, rotate = bool(self.opt.get("use_hflip")), bool(self.opt.get("use_rot"))
            pixels = random_patch(pixels, self.crop_pad_size, hflip=hflip, rotate=rotate)
        gt = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255
        return {"gt": gt, "gt_path": self.images.path(index)}
