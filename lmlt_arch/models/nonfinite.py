"""Keeping a batch on which training broke down, for inspection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from lmlt_arch.data.images import encode_png
from lmlt_arch.files import OutputError, make_folder, write_atomic
from lmlt_arch.models.training_state import save_whole


def keep_batch(folder: Path, lq: Tensor, gt: Tensor, files: list[str]) -> str:
    """Write a batch as `batch.pth` (exact) and as `lq.png` and `gt.png` (images side by side).

    Args:
        folder: made if it is missing.
        lq: (B, 3, h, w), nominally in [0, 1].
        gt: (B, 3, H, W).
        files: names of the images.

    Returns:
        Half a sentence for an error message: where it is, or why it could not be kept.
    """
    try:
        make_folder(folder)
        save_whole({"lq": lq.cpu(), "gt": gt.cpu(), "files": files}, folder / "batch.pth")
        for name, images in (("lq", lq), ("gt", gt)):
            write_atomic(folder / f"{name}.png", encode_png(_side_by_side(images), compression_level=6))
    except OutputError as error:
        return f"it could not be kept ({error})"
    return f"it is kept in {folder}"


def _side_by_side(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    row = images.detach().float().nan_to_num(0).clamp(0, 1).cpu().mul(255).round().byte()
    return np.ascontiguousarray(row.permute(2, 0, 3, 1).flatten(1, 2).numpy())
