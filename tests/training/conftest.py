"""Images for every published option file, and BasicSR's pipelines in this process."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from basicsr.utils import logger as basicsr_logger
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from helpers.small.runs import NAMES, SIDE, Run
from helpers.small.stages import random_vgg
from PIL import Image

import basicsr.test
import basicsr.train


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ground truth, its LR at each scale under names of benchmarks, LMDBs of both, and a file of VGG."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in NAMES:
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        for sub, ending, side in (
            ("HR", "", SIDE),
            ("LR", "", 24),
            *((f"LR{s}", f"x{s}", SIDE // s) for s in (1, 2, 3, 4)),
        ):
            (folder / sub).mkdir(exist_ok=True)
            coarse.resize((side, side)).save(folder / sub / f"{name}{ending}.png")
    for path in [*folder.iterdir()]:
        files = sorted(image.name for image in path.iterdir())
        make_lmdb_from_imgs(str(path), f"{path}.lmdb", files, [name.partition(".")[0] for name in files])
    weights = folder / "experiments" / "pretrained_models"
    weights.mkdir(parents=True)
    random_vgg(weights / "vgg19-dcbb9e9d.pth")  # where BasicSR looks for it
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs BasicSR's pipeline for testing or training."""
    monkeypatch.chdir(data)
    monkeypatch.setattr(basicsr_logger, "initialized_logger", {"basicsr": True})
    number = itertools.count()

    def run(pipeline: str, opt: dict[str, Any]) -> Path:
        root = tmp_path / str(next(number))  # BasicSR cannot begin a run twice in a second
        root.mkdir()
        (root / "run.yml").write_text(yaml.safe_dump(opt))
        monkeypatch.setattr(sys, "argv", ["run", "-opt", str(root / "run.yml")])
        getattr(getattr(basicsr, pipeline), f"{pipeline}_pipeline")(str(root))
        return root

    yield run
