"""Photographs and a way to run the command on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

NAMES = ("astronaut", "chelsea", "coffee", "rocket")


@pytest.fixture(scope="session")
def photo_arrays() -> dict[str, NDArray[np.uint8]]:
    """Crops of photographs; no side is a multiple of 12, and no two sizes are equal."""
    return {
        name: np.ascontiguousarray(getattr(skimage.data, name)()[60 : 187 + 5 * i, 100 : 251 - 7 * i])
        for i, name in enumerate(NAMES)
    }


@pytest.fixture
def photos(tmp_path: Path, photo_arrays: dict[str, NDArray[np.uint8]]) -> Path:
    """A folder of PNG photographs, named as a dataset's HR folder."""
    folder = tmp_path / "datasets" / "Photos_HR"
    folder.mkdir(parents=True)
    for name, pixels in photo_arrays.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def command(tmp_path: Path, repo_root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `lmlt prepare` with some arguments in the folder above `datasets`; end it with the test."""
    started = []

    def start(*args: object, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lmlt_arch", "prepare", *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(repo_root), "OMP_NUM_THREADS": "1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
