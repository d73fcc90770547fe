"""`upscale_files`: what `lmlt upscale` does, from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.nearest_runner import Nearest
from PIL import Image

from lmlt_arch.errors import UsageError
from lmlt_arch.inference import (
    Encoding,
    FileProgress,
    Settings,
    Upscaler,
    resize_by,
    resize_to,
    upscale_files,
)
from lmlt_arch.inference.processes import Processes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in/sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "sub/b.png", "c.png")):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(tmp_path / "in" / name)
    (tmp_path / "in/broken.png").write_bytes(b"nothing")
    (tmp_path / "in/notes.txt").touch()
    return tmp_path


def test_a_folder(folder: Path) -> None:
    said: list[FileProgress] = []
    notices: list[str] = []
    limit = Image.MAX_IMAGE_PIXELS
    results = upscale_files(
        [folder / "in"], folder / "out", Upscaler(Nearest()), progress=said.append, notice=notices.append
    )
    by_name = {result.job.source.name: result for result in results}
    assert {name: result.status for name, result in by_name.items()} == {
        "a.png": "done",
        "b.png": "done",
        "c.png": "done",
        "broken.png": "failed",
    }
    assert (by_name["a.png"].before, by_name["a.png"].after) == ((4, 6), (8, 12))
    assert (np.asarray(Image.open(folder / "out/c.png")) == (2, 0, 0)).all()
    assert [one.done for one in said] == sorted(one.done for one in said)
    assert said[0] == (None, 0, 4) and said[-1].done == pytest.approx(4)
    assert len(notices) == 1 and "txt" in notices[0]
    assert limit == Image.MAX_IMAGE_PIXELS
    again = list(upscale_files([folder / "in"], folder / "out", Upscaler(Nearest())))
    assert sorted(result.status for result in again) == ["failed", *["skipped"] * 3]


@pytest.mark.parametrize(
    ("resize", "size"),
    [(resize_by(1.5), (9, 6)), (resize_to(10, 20), (20, 10)), (resize_to(8, 0), (12, 8)), (None, (12, 8))],
)
def test_sizes_and_formats(folder: Path, resize: object, size: tuple[int, int]) -> None:
    settings = Settings(Encoding(format="tiff"), resize=resize, suffix="_x")  # type: ignore[arg-type]
    (result,) = upscale_files([folder / "in/a.png"], folder / "out", Upscaler(Nearest()), settings)
    assert result.status == "done"
    with Image.open(folder / "out/a_x.tif") as image:
        assert image.size == size


def test_wrong_requests_are_refused_at_once(folder: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        upscale_files([folder / "absent"], folder / "out", Upscaler(Nearest()))
    with pytest.raises(UsageError, match="would replace an input"):
        upscale_files([folder / "in"], folder / "in", Upscaler(Nearest()))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda: Encoding(format="gif"), "format must be one of png, jpg"),
        (lambda: Encoding(depth=12), "depth must be 8, 16 or 32, not 12"),
        (lambda: Encoding(quality=0), r"quality must lie in 1\.\.100, not 0"),
        (lambda: resize_by(-2), "scale must be above 0 and below 1000, not -2"),
        (lambda: resize_by(float("nan")), "scale must be above 0"),
        (lambda: resize_to(0, 0), "a size needs a height or a width above 0"),
    ],
)
def test_impossible_settings_are_refused(request_: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request_()


def test_processes_share_the_work(folder: Path) -> None:
    done = [
        {
            result.job.source.name
            for result in upscale_files(
                [folder / "in"], folder / "out", Upscaler(Nearest()), processes=Processes(rank, 2, rank)
            )
        }
        for rank in range(2)
    ]
    assert not done[0] & done[1]
    assert done[0] | done[1] == {"a.png", "b.png", "c.png", "broken.png"}
