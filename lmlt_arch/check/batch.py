"""The first batch that a training would see, and a picture of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import default_collate

from lmlt_arch.data.datasets.any_scale import DEFAULT_LQ_SIZE
from lmlt_arch.data.images import encode_png
from lmlt_arch.files import write_atomic
from lmlt_arch.options.datasets import DATASETS
from lmlt_arch.options.looking import at, model_family, section, whole
from lmlt_arch.options.total_batch import Launch, total_batch

# Most images of the batch in the picture.
SHOWN = 8
_GAP = 4


def first_batch(opt: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    """The first batch of a training; for a test, the first pair of its first dataset.

    Args:
        opt: options without mistakes.

    Returns:
        LQ of shape (b, 3, h, w) and ground truth of shape (b, 3, h * scale, w * scale), in [0, 1]; None for a
        test without ground truth or LQ images.

    Raises:
        ValueError: there is no dataset, or one for training has no ground truth.
        Exception: the dataset or the degradation failed.
    """
    from basicsr.data import build_dataset

    if not opt["datasets"]:
        raise ValueError("there is none: add one, such as 'test_1'")
    phase = "train" if "train" in opt["datasets"] else next(iter(opt["datasets"]))
    data = deepcopy(dict(opt["datasets"][phase]))
    data |= {"phase": phase.split("_")[0], "scale": opt["scale"]}
    dataset = build_dataset(data)
    count = min(len(dataset), whole(data, "batch_size_per_gpu") or 1)
    batch = default_collate([dataset[index] for index in range(count)])
    if "gt" not in batch:
        if phase == "train":
            raise ValueError(f"{data.get('type')} gives no ground truth to train on")
        return None
    if "lq" in batch:
        return batch["lq"], batch["gt"]
    if not model_family(opt).synthesizes or phase != "train":
        return None
    from lmlt_arch.options import read_degradation, read_gt_usm, read_scale
    from realsr.degradation import Degradation, sharpen
    from realsr.models.pairs import degraded_crops

    gt = batch["gt"]
    degradation = Degradation(read_degradation(opt), scale=read_scale(opt))
    source = sharpen(gt) if read_gt_usm(opt) else gt
    generator = Generator().manual_seed(int(at(opt, "manual_seed") or 0))
    return degraded_crops(gt, degradation, opt["gt_size"], generator, source=source)


def draw_batch(lq: Tensor, gt: Tensor, path: Path) -> None:
    """Write a PNG with each LQ image, upscaled by repeating pixels, beside its ground truth.

    Args:
        lq: shape (b, 3, h, w), in [0, 1].
        gt: shape (b, 3, H, W), in [0, 1].
        path: the file.

    Raises:
        OutputError: the file cannot be written.
    """
    height, width = gt.shape[-2:]
    upscaled = torch.nn.functional.interpolate(lq[:SHOWN], (height, width), mode="nearest")
    shown = len(upscaled)
    canvas = np.full((shown * (height + _GAP) - _GAP, 2 * width + _GAP, 3), 255, np.uint8)
    for index in range(shown):
        top = index * (height + _GAP)
        for left, image in ((0, upscaled[index]), (width + _GAP, gt[index])):
            pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            canvas[top : top + height, left : left + width] = pixels
    write_atomic(path, encode_png(canvas, compression_level=6))


class Patches(NamedTuple):
    """The LQ patches of a training step.

    Attributes:
        batch: of the process that has most of them.
        at_once: how many of those go through the network at once.
        side: in pixels.
    """

    batch: int
    at_once: int
    side: int


def training_patches(opt: Mapping[str, Any], launch: Launch) -> Patches | None:
    """The LQ patches of a training that is started so, or None for a test."""
    data = section(opt, "datasets", "train")
    kind = DATASETS.get(str(data.get("type")))
    if kind and kind.any_scale:
        side = whole(data, "lq_size") or DEFAULT_LQ_SIZE
    else:
        size = whole(opt, "gt_size") if model_family(opt).synthesizes else whole(data, "gt_size")
        side = (size or 0) // (whole(opt, "scale") or 1)
    batch = total_batch(opt, launch)
    if batch is None or not side:
        return None
    share = batch.share()
    parts = batch.parts(share) if batch.divided else whole(opt, "train", "accumulation_steps") or 1
    return Patches(share, -(-share // parts), side)
