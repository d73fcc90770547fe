"""Small networks and images for the tests of evaluations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from lmlt_arch.archs import LMLT


def checkpoint(path: Path, *, scale: int = 2, seed: int = 0) -> Path:
    """A file of a small LMLT with random weights, whose output leaves [0, 1] on both sides."""
    torch.manual_seed(seed)
    state = LMLT(8, 1, 1.5, scale).state_dict()
    state["to_img.0.weight"] *= 4
    state["to_img.0.bias"] += 0.5
    torch.save({"params": state}, path)
    return path


def photo(width: int = 96, height: int = 72, *, left: int = 90) -> np.ndarray:
    """(height, width, 3): a part of scikit-image's cat."""
    return np.ascontiguousarray(data.chelsea()[60 : 60 + height, left : left + width])


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write an image, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
