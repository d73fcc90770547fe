"""Making pairs of LQ and ground truth from ground truth alone, for training and for validation."""

from __future__ import annotations

from pathlib import PurePath

import torch
from torch import Generator, Tensor

from realsr.degradation import Degradation, sharpen
from realsr.degradation.process import needed_side
from realsr.degradation.sampling import image_seed


def degraded_crops(
    gt: Tensor, degradation: Degradation, size: int, generator: Generator, *, source: Tensor
) -> tuple[Tensor, Tensor]:
    """Degrade a batch and crop the pairs, all at the same random place, as BasicSR does.

    Args:
        gt: the target, shape (b, 3, h, w); h and w multiples of the scale.
        degradation: the degradation.
        size: side of the crops of gt, a multiple of the scale.
        generator: on the CPU, the only source of chance.
        source: what is degraded: gt or a sharpened copy.

    Returns:
        LQ of shape (b, 3, size / scale, size / scale) and gt of shape (b, 3, size, size).

    Raises:
        ValueError: if gt is smaller than the crops, or not a multiple of the scale.
    """
    scale = degradation.scale
    height, width = gt.shape[-2:]
    if height % scale or width % scale or min(height, width) < size:
        raise ValueError(
            f"training images come as {width}x{height} from the dataset; they must be at least gt_size, "
            f"{size}, and multiples of the scale, {scale}: change gt_size, or HQImageDataset's crop_pad_size"
        )
    lq, _ = degradation(source, generator)
    side = size // scale
    top, left = (
        int(torch.randint(length // scale - side + 1, (1,), generator=generator))
        for length in (height, width)
    )
    lq = lq[..., top : top + side, left : left + side]
    gt = gt[..., top * scale : top * scale + size, left * scale : left * scale + size]
    return lq.contiguous(), gt.contiguous()


def validation_pair(
    gt: Tensor, degradation: Degradation, seed: int, files: list[str], *, sharpened: bool
) -> tuple[Tensor, Tensor]:
    """Degrade images of a validation set, each always in the same way.

    Args:
        gt: shape (b, 3, h, w).
        degradation: the degradation.
        seed: of the set. This seed and a file's name determine its parameters.
        files: names of the b files; folders do not count.
        sharpened: whether the degradation starts from a sharpened copy.

    Returns:
        LQ, and gt cropped at the bottom and right to a multiple of the scale.

    Raises:
        ValueError: if the images are too small for the degradation; it names them.
    """
    scale = degradation.scale
    height, width = (side // scale * scale for side in gt.shape[-2:])
    needed = needed_side(degradation, sharpened=sharpened)
    if min(height, width) < needed:
        raise ValueError(
            f"{', '.join(files)}: {gt.shape[-1]}x{gt.shape[-2]} pixels, but this degradation needs at least "
            f"{needed} on both sides"
        )
    gt = gt[..., :height, :width].contiguous()
    source = sharpen(gt) if sharpened else gt
    lq = [
        degradation(image[None], Generator().manual_seed(image_seed(seed, PurePath(file).name)))[0]
        for image, file in zip(source, files, strict=True)
    ]
    return torch.cat(lq), gt
