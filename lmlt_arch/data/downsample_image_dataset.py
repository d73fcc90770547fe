"""A BasicSR data set of HR images alone, whose LR images are made while training."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lmlt_arch.data.files import list_images
from lmlt_arch.data.images import ImageError, decode_image
from lmlt_arch.data.lmdb_store import read_lmdb_keys


class DownsampleImageDataset(Dataset[dict[str, Any]]):
    """HR images with LR made by antialiased bicubic resizing of each crop (the ESC DFLIP training set).

    In the train phase an item is a random crop, flipped and rotated at random as BasicSR's ``augment`` does;
    in any other phase it is the whole image, cropped at the bottom and right to a multiple of the scale. An
    image smaller than the crop is extended by reflection. Random choices come from Python's ``random``, which
    BasicSR seeds in its workers.

    LR is the crop resized by ``torch.nn.functional.interpolate(mode="bicubic", antialias=True)`` (kernel with
    a = -0.5, as MATLAB's), clamped to 0..1 and rounded to 8 bits like the LR files of benchmarks; with
    ``quantize_lq: false`` it is not rounded.

    Args:
        opt: BasicSR's options of a data set:

            - ``dataroot_gt``: a folder, searched at any depth, or an LMDB folder, or a list of them.
            - ``io_backend``: ``{type: disk}`` (default) or ``{type: lmdb}``.
            - ``meta_info_file``: for ``disk``, a text file with an image's relative path at the start of each
              line, or a list with one for each root; default: every image found.
            - ``phase``: ``train`` or anything else.
            - ``scale``: the downsampling factor.
            - ``gt_size``: side of the crop, a multiple of the scale (train).
            - ``use_hflip``, ``use_rot``: flips and rotation (train; default: false).
            - ``quantize_lq``: default: true.
            - ``mean``, ``std``: per channel, to normalise both images.

    Raises:
        ValueError: If an option is missing or makes no sense, or there are no images.
        FileNotFoundError: If a root does not exist.

    An item has ``lq`` of shape (3, h, w) and ``gt`` of shape (3, h * scale, w * scale), RGB float32 in 0..1,
    and the strings ``lq_path`` and ``gt_path``, which are equal. Damaged images raise
    :class:`~lmlt_arch.data.images.ImageError` with their name.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self.scale = int(_required(opt, "scale"))
        self.train = _required(opt, "phase") == "train"
        self.gt_size = int(_required(opt, "gt_size")) if self.train else 0
        if self.gt_size % self.scale:
            raise ValueError(f"gt_size {self.gt_size} must be a multiple of the scale {self.scale}")
        roots = _required(opt, "dataroot_gt")
        roots = [roots] if isinstance(roots, (str, Path)) else roots
        self.roots = [str(Path(root).expanduser()) for root in roots]
        self.io_backend: dict[str, Any] = dict(opt.get("io_backend") or {"type": "disk"})
        self.paths = self._list_paths()
        if not self.paths:
            raise ValueError(f"no images in {', '.join(self.roots)}")
        self.mean = _channels(opt.get("mean"), default=0.0)
        self.std = _channels(opt.get("std"), default=1.0)
        # Opened at the first read, in the process that reads.
        self.file_client: Any = None

    def _list_paths(self) -> list[tuple[str, str]]:
        """Root and path (or key) of every image."""
        backend = self.io_backend.get("type")
        if backend == "lmdb":
            return [(root, key) for root in self.roots for key in read_lmdb_keys(Path(root))]
        if backend != "disk":
            raise ValueError(f"io_backend type must be disk or lmdb, not {backend}")
        infos = self.opt.get("meta_info_file") or [None] * len(self.roots)
        infos = [infos] if isinstance(infos, (str, Path)) else infos
        if len(infos) != len(self.roots):
            raise ValueError("meta_info_file must name one file for each folder of dataroot_gt")
        return [
            (root, str(Path(root, name)))
            for root, info in zip(self.roots, infos, strict=True)
            for name in (list_images(Path(root)) if info is None else _read_meta_info(Path(info)))
        ]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        root, path = self.paths[index]
        pixels = decode_image(self._read(root, path), name=self._name(root, path))
        pixels = self._crop_train(pixels) if self.train else self._crop_test(pixels, self._name(root, path))
        gt = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255
        lq = self._downsample(gt)
        return {
            "lq": (lq - self.mean) / self.std,
            "gt": (gt - self.mean) / self.std,
            "lq_path": path,
            "gt_path": path,
        }

    def _name(self, root: str, path: str) -> str:
        """What to call an image in errors."""
        return path if self.io_backend["type"] == "disk" else f"{path} in {root}"

    def _read(self, root: str, path: str) -> bytes:
        if self.io_backend["type"] == "disk":
            return Path(path).read_bytes()
        if self.file_client is None:
            from basicsr.utils import FileClient

            options = {key: value for key, value in self.io_backend.items() if key != "type"}
            self.file_client = FileClient("lmdb", db_paths=self.roots, client_keys=self.roots, **options)
        data: bytes | None = self.file_client.get(path, root)
        if data is None:
            raise KeyError(f"{root} has no image {path}, though its meta_info.txt names it")
        return data

    def _crop_train(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = self.gt_size
        missing = [max(0, size - side) for side in pixels.shape[:2]]
        if any(missing):
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
        top, left = (random.randint(0, side - size) for side in pixels.shape[:2])
        pixels = pixels[top : top + size, left : left + size]
        if self.opt.get("use_hflip") and random.random() < 0.5:
            pixels = pixels[:, ::-1]
        if self.opt.get("use_rot"):
            if random.random() < 0.5:
                pixels = pixels[::-1]
            if random.random() < 0.5:
                pixels = pixels.transpose(1, 0, 2)
        return pixels

    def _crop_test(self, pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
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


def _required(opt: Mapping[str, Any], key: str) -> Any:
    value = opt.get(key)
    if value is None:
        raise ValueError(f"DownsampleImageDataset needs the option {key}")
    return value


def _channels(value: float | Sequence[float] | None, *, default: float) -> Tensor:
    """One number for each channel, to be combined with (3, h, w)."""
    return torch.as_tensor(default if value is None else value, dtype=torch.float32).reshape(-1, 1, 1)


def _read_meta_info(path: Path) -> list[str]:
    """The paths in a meta info file, whose lines are ``path`` or ``path (h,w,c)``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip().rsplit(" (", 1)[0] for line in lines if line.strip()]
