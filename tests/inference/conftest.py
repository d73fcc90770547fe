"""Small networks and photographs, and processes whose memory counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import skimage.data
import torch
from PIL import Image

from lmlt_arch import LMLT


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LMLT x2 with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "LMLT_small_x2.pth"
    torch.save({"params_ema": LMLT(8, 1, upscaling_factor=2).state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """40 x 30 pixels of a photograph."""
    return Image.fromarray(skimage.data.astronaut()[:60:2, 200:280:2])


@pytest.fixture
def users_environment(repo_root: Path) -> dict[str, str]:
    """Variables of a process that gives memory back as users' do; `scripts/test.sh` has it keep some."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return {**kept, "PYTHONPATH": str(repo_root)}
