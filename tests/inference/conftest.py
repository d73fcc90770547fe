"""Small networks and photographs, and processes whose memory counts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import skimage.data
import torch
from PIL import Image

from lmlt_arch import LMLT
from lmlt_arch.cli import main


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


@pytest.fixture
def here(tmp_path: Path, photo: Image.Image, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs in `in` and a network, and the working directory in it."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    photo.save(tmp_path / "in" / "a.png")
    photo.resize((33, 25)).save(tmp_path / "in" / "b.jpg")
    photo.save(tmp_path / "in" / "sub" / "c.webp")
    shutil.copy(checkpoint, tmp_path / "net.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    return tmp_path


@pytest.fixture
def lmlt(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command: exit status, standard output, standard error without the progress bar."""

    def run(*args: object) -> tuple[int, str, str]:
        try:
            status = main(["upscale", *map(str, args)])
        except SystemExit as error:
            status = int(error.code or 0)
        out, err = capsys.readouterr()
        return (
            status,
            out,
            "\n".join(line for line in err.splitlines() if "image" not in line or "lmlt" in line),
        )

    return run
