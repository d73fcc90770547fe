"""Files through the three stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.nearest_runner import Nearest
from PIL import Image
from torch import Tensor

from lmlt_arch import Upscaler
from lmlt_arch.inference import pipeline
from lmlt_arch.inference.images.encoding import Encoding
from lmlt_arch.inference.jobs import Job
from lmlt_arch.inference.pipeline import Plan, Result, Settings, upscale_images


def jobs(folder: Path, sizes: list[tuple[int, int]]) -> list[Job]:
    made = []
    for number, size in enumerate(sizes):
        path = folder / f"{number:02}.png"
        Image.new("RGB", size, (number, 2 * number, 0)).save(path)
        made.append(Job(path, folder / "out" / path.name))
    return made


def run(work: list[Job], upscaler: Upscaler, settings: Settings | None = None) -> list[Result]:
    def large(plan: Plan) -> None:
        raise AssertionError

    return list(upscale_images(work, upscaler, settings or Settings(Encoding()), large=large))


def test_neighbors_of_one_size_run_together(tmp_path: Path) -> None:
    runner = Nearest()
    upscaler = Upscaler(runner, tile=16, overlap=4)
    runner.batches.clear()
    work = jobs(tmp_path, [(8, 8)] * 6 + [(10, 8)] + [(8, 8)] * 2 + [(40, 40)])
    results = run(work, upscaler)
    assert [result.status for result in results] == ["done"] * len(work)
    assert [shape[0] for shape in runner.batches[:4]] == [4, 2, 1, 2]
    for number, job in enumerate(work):
        assert (np.asarray(Image.open(job.target)) == (number, 2 * number, 0)).all()


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that are larger than all that may wait go through one by one, and nothing locks up."""
    monkeypatch.setattr(pipeline, "_WAITING", 200)
    work = jobs(tmp_path, [(8, 8), (30, 30), (8, 8), (8, 8), (30, 30), (8, 8)] * 4)
    done: list[float] = []
    results = list(
        upscale_images(
            work,
            Upscaler(Nearest(), tile=128),
            Settings(Encoding()),
            large=lambda plan: None,
            progress=done.append,
        )
    )
    assert len(results) == 24
    assert sum(done) == pytest.approx(24)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA"), "not enough memory"),
        (RuntimeError("kernel\nline 2"), "kernel"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_an_image_on_which_the_network_fails(tmp_path: Path, error: Exception, says: str) -> None:
    class Failing(Nearest):
        def __call__(self, lq: Tensor) -> Tensor:
            if lq.shape[-1] == 9:
                raise error
            return super().__call__(lq)

    work = jobs(tmp_path, [(8, 8), (9, 9), (7, 7)])
    results = {result.job.source.name: result for result in run(work, Upscaler(Failing(), tile=0))}
    assert [results[f"0{number}.png"].status for number in range(3)] == ["done", "failed", "done"]
    assert results["01.png"].error == f"{work[1].source}: {says}"


def test_a_size_that_is_asked_for_counts_as_large(tmp_path: Path) -> None:
    settings = Settings(Encoding(), resize=lambda before: (300, 400), in_memory=100_000)
    given: list[Plan] = []
    results = list(
        upscale_images(jobs(tmp_path, [(20, 10)]), Upscaler(Nearest()), settings, large=given.append)
    )
    assert [result.status for result in results] == ["done"]
    assert [plan.after for plan in given] == [(300, 400)]


def test_leaving_early_leaves_no_thread(tmp_path: Path) -> None:
    work = jobs(tmp_path, [(8, 8)] * 40)
    stream = upscale_images(work, Upscaler(Nearest()), Settings(Encoding()), large=lambda plan: None)
    next(stream)
    stream.close()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
