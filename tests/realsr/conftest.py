"""Official settings, and photographs, small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from basicsr.models import build_model
from basicsr.utils.misc import set_random_seed
from helpers.official_degradation import official_options
from helpers.small.stages import random_vgg, stage_options
from torch import Tensor

from lmlt_arch.options import read_degradation
from realsr.degradation import Degradation

Make = Callable[..., Any]


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


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_vgg(tmp_path_factory.mktemp("vgg") / "mine.pth")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Builds a model as BasicSR does, always with the same initial weights."""

    def build(model_type: str, **more: Any) -> Any:
        set_random_seed(0)
        return build_model(stage_options(model_type, tmp_path, **more))

    return build
