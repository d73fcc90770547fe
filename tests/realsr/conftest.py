"""Official settings, and photographs, small."""

from __future__ import annotations

from typing import Any

import pytest
import skimage.data
import torch
from helpers.official_degradation import official_options
from torch import Tensor

from lmlt_arch.options import read_degradation
from realsr.degradation import Degradation


@pytest.fixture
def official() -> dict[str, Any]:
    return official_options()


@pytest.fixture(scope="session")
def degradation() -> Degradation:
    return Degradation(read_degradation(official_options()), scale=4)


@pytest.fixture(scope="session")
def photos() -> Tensor:
    """Three photographs, (3, 3, 140, 124) in 0..1; the sides are no multiples of 16."""
    crops = [getattr(skimage.data, name)()[80:220, 120:244] for name in ("astronaut", "chelsea", "coffee")]
    return torch.stack([torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255 for crop in crops])
