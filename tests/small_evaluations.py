"""Small networks and images for the tests of evaluations."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from lmlt_arch.archs import LMLT


def checkpoint(path: Path, *, scale: int = 2, seed: int = 0) -> Path:
    """A file of a small LMLT with random weights."""
    torch.manual_seed(seed)
    torch.save({"params": LMLT(8, 1, 1.5, scale).state_dict()}, path)
    return path


def photo(width: int = 96, height: int = 72, *, left: int = 90) -> np.ndarray:
    """(height, width, 3): a part of scikit-image's cat."""
    return np.ascontiguousarray(data.chelsea()[60 : 60 + height, left : left + width])


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write an image, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
