"""Real compressors (Pillow's libjpeg and libwebp), image by image on the CPU."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def real_jpeg(images: Tensor, quality: Tensor, *, subsampling: str = "4:2:0") -> Tensor:
    """Compress and decompress a batch with libjpeg.

    Args:
        images: RGB of shape (b, 3, h, w), values 0..1; they are rounded to 8 bits.
        quality: JPEG quality of each image; shape (b,); rounded to a whole number of 1 to 100.
        subsampling: ``4:4:4``, ``4:2:2`` or ``4:2:0``.

    Returns:
        Shape (b, 3, h, w), multiples of 1/255.
    """
    return _round_trip(images, quality, "JPEG", subsampling=subsampling)


def real_webp(images: Tensor, quality: Tensor) -> Tensor:
    """Compress and decompress a batch with lossy WebP; see :func:`real_jpeg`."""
    return _round_trip(images, quality, "WEBP")


def _round_trip(images: Tensor, quality: Tensor, codec: str, **options: str) -> Tensor:
    pixels = (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    decoded = []
    for image, value in zip(pixels, quality.round().clamp(1, 100).int().tolist(), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, codec, quality=value, **options)
        with Image.open(buffer) as file:
            decoded.append(np.asarray(file.convert("RGB")))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(images) / 255
