"""The batch that counts: of each process, over all of them, and of the recipe."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from basicsr.utils import get_root_logger
from basicsr.utils.options import parse_options
from helpers.small.options import paired_options, photo_options

from lmlt_arch.cli import main
from lmlt_arch.models.shares import Shares
from lmlt_arch.options import load_option_file, option_mistakes, option_notes
from lmlt_arch.options.total_batch import Launch, launch_of, total_batch

ALONE, FOUR = Launch(), Launch(True, 4)


@pytest.fixture
def official(tmp_path: Path) -> dict[str, Any]:
    """Like ESC_Real_X4_GAN.yaml, in what concerns the batch."""
    opt = photo_options(tmp_path)
    opt |= {"num_gpu": 4, "queue_size": 180}
    opt["datasets"]["train"]["batch_size_per_gpu"] = 12
    return opt


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize("processes", [1, 2, 4, 7])
def test_official_file_with_a_launcher(
    official: dict[str, Any], monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    gpus(monkeypatch, 8)
    assert option_mistakes(official, launch=Launch(True, processes)) == []
    notes = [note.text for note in option_notes(official, launch=Launch(True, processes))]
    if processes == 4:
        assert notes == []
    else:
        (note,) = notes
        assert f"makes {12 * processes} images a step in" in note
        assert "the recipe has 48: write train: total_batch: 48, which any number of processes" in note
        assert "start 4 by torchrun --nproc_per_node=4 ... --launcher pytorch" in note


def test_official_file_without_a_launcher(official: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    assert option_mistakes(official) == []  # one process on the CPU, 12 images
    gpus(monkeypatch, 4)
    (mistake,) = option_mistakes(official)
    assert mistake.text == "180 must be a multiple of the batch, 48, such as 192"
    official["num_gpu"] = "auto"
    assert option_mistakes(official) == [mistake]
    gpus(monkeypatch, 1)
    assert option_mistakes(official) == []


# total, processes, at once, recipe, divided
CASES: list[tuple[Any, int, Launch, Any, tuple[int, int, int, int | None, bool]]] = [
    (0, 0, ALONE, None, (12, 1, 12, None, False)),
    (4, 0, ALONE, None, (12, 1, 12, 48, False)),
    (4, 4, ALONE, None, (48, 1, 48, 48, False)),
    (4, 4, Launch(False, 3), None, (48, 1, 48, 48, False)),
    ("auto", 2, ALONE, None, (24, 1, 24, None, False)),
    ("auto", 2, FOUR, 64, (64, 4, 12, 64, True)),
    (1, 2, FOUR, None, (48, 4, 12, 12, False)),
]


@pytest.mark.parametrize(("num_gpu", "there", "launch", "recipe", "wanted"), CASES)
def test_counts(
    official: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    num_gpu: Any,
    there: int,
    launch: Launch,
    recipe: int | None,
    wanted: tuple[int, int, int, int | None, bool],
) -> None:
    gpus(monkeypatch, there)
    official["num_gpu"] = num_gpu
    # Both keys mean the same to our models.
    for section in ("train", "lmlt") if recipe else ("lmlt",):
        opt = {**official, section: {**(official.get(section) or {}), "total_batch": recipe}}
        assert total_batch(opt, launch) == wanted


@pytest.mark.parametrize(
    ("total", "processes", "shares", "parts"),
    [(64, 1, [64], 6), (64, 4, [16] * 4, 2), (64, 8, [8] * 8, 1), (7, 3, [3, 2, 2], 1), (5, 5, [1] * 5, 1)],
)
def test_a_total_is_divided_among_any_number_of_processes(
    official: dict[str, Any], total: int, processes: int, shares: list[int], parts: int
) -> None:
    official["train"]["total_batch"] = total
    batch = total_batch(official, Launch(launched=True, processes=processes))
    assert batch is not None
    assert [batch.share(rank) for rank in range(processes)] == shares
    assert batch.parts(batch.share()) == parts
    assert f"= {total} in total" in str(batch)


def test_what_contradicts_a_total(official: dict[str, Any]) -> None:
    official["train"] |= {"total_batch": 3, "accumulation_steps": 3}
    found = {mistake.place: mistake.text for mistake in option_mistakes(official, launch=FOUR)}
    assert found == {
        ("train", "total_batch"): "3 cannot be divided among 4 processes: start fewer",
        ("train", "accumulation_steps"): "follows from the batch in total and batch_size_per_gpu, the most "
        "that goes through at once: remove it",
    }
    del official["train"]["accumulation_steps"]
    official["train"]["total_batch"] = 200
    assert option_mistakes(official, launch=Launch()) == []
    official["datasets"]["train"]["batch_size_per_gpu"] = 190
    (mistake,) = option_mistakes(official, launch=Launch())
    assert mistake.text == "180 must be at least what a process takes at once, 190"


def test_launches() -> None:
    environment = {"WORLD_SIZE": "4", "SLURM_NTASKS": "8"}
    assert launch_of("none", environment) == ALONE
    assert launch_of("pytorch", environment) == FOUR
    assert launch_of("slurm", environment) == Launch(True, 8)
    assert launch_of("pytorch", {"WORLD_SIZE": "many"}) == Launch(True, 1)


def check(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    status = main(["check", "-opt", str(path), "--no-timing", *more])
    return status, capsys.readouterr().out


def test_the_check_says_what_it_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opt = paired_options(tmp_path)
    opt["num_gpu"] = 2
    path = tmp_path / "options.yml"
    path.write_text(yaml.safe_dump(opt))
    status, said = check(path, capsys)
    assert status == 0
    first, note = said.splitlines()[:2]
    assert first == (
        "batch: 2 per process x 1 process = 2 in total; the recipe has 4 (assumed: one process, without a "
        "launcher)"
    )
    assert note.startswith(f"note: {path}:")
    assert note.endswith(
        "batch_size_per_gpu: makes 2 images a step in one process, but the recipe has 4: write train: "
        "total_batch: 4, which any number of processes divides, or start 2 by torchrun --nproc_per_node=2 "
        "... --launcher pytorch, or if it is meant, train: total_batch: 2"
    )
    status, said = check(path, capsys, "--nproc", "2")
    assert status == 0
    assert "batch: 2 per process x 2 processes = 4 in total, as in the recipe (assumed: a launcher" in said
    assert "note:" not in said
    for wrong in (["--nproc", "0"], ["--nproc", "2", "--launcher", "none"]):
        assert check(path, capsys, *wrong)[0] == 2


@pytest.mark.parametrize(("launch", "wrong"), [(Launch(), False), (Launch(True, 2), True)])
def test_sums_over_images_are_refused_where_they_depend_on_processes(
    tmp_path: Path, launch: Launch, wrong: bool
) -> None:
    opt = paired_options(tmp_path)
    opt["train"] |= {"total_batch": 2, "pixel_opt": {"type": "L1Loss", "reduction": "sum"}}
    path = tmp_path / "options.yml"
    path.write_text(yaml.safe_dump(opt))
    found = option_mistakes(load_option_file(path), launch=launch)
    assert [mistake.place for mistake in found] == [("train", "pixel_opt", "reduction")] * wrong
    assert all("take mean, and a larger loss_weight" in mistake.text for mistake in found)


def test_a_model_that_does_not_divide_its_images_is_named(caplog: pytest.LogCaptureFixture) -> None:
    opt = {"dist": True, "world_size": 2, "rank": 0, "model_type": "LMLTModel", "train": {"total_batch": 3}}
    shares = Shares({**opt, "datasets": {"train": {"batch_size_per_gpu": 2}}}, 1)
    logger = get_root_logger()
    logger.addHandler(caplog.handler)
    try:
        for _ in range(3):
            shares.begin_step()
        assert caplog.text.count("1 or 2 per process x 2 processes = 3 in total") == 1
        caplog.clear()
        shares = Shares({**opt, "datasets": {"train": {"batch_size_per_gpu": 2}}}, 1)
        for _ in range(3):
            shares.begin_step()
            [*shares.parts(torch.zeros(2, 3, 1, 1))]
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.text


def test_training_says_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opt = paired_options(tmp_path)
    opt["num_gpu"] = 2
    path = tmp_path / "options.yml"
    path.write_text(yaml.safe_dump(opt))
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(path)])
    for rank, times in (("0", 1), ("1", 0)):
        caplog.clear()
        monkeypatch.setenv("RANK", rank)
        with caplog.at_level(logging.WARNING):
            parse_options(str(tmp_path), is_train=True)
        assert [
            record.getMessage() for record in caplog.records if "the recipe has 4" in record.getMessage()
        ][times:] == []
        assert sum("the recipe has 4" in record.getMessage() for record in caplog.records) == times


def test_lines_of_the_documentation_give_the_published_total(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 8)
    published = {"LMLT": 64, "ESC": 64, "ESCReal": 48, "ESCRealM": 48, "ESCLTE": 32}
    pages = [repo_root / "README.md", *sorted((repo_root / "docs").rglob("*.md"))]
    pages += sorted((repo_root / "options").glob("train_*.yml"))
    seen = set()
    for page in pages:
        for line in re.findall(r"torchrun .*train\.py .*", page.read_text(encoding="utf-8")):
            words = shlex.split(line.strip("` "))
            file = words[words.index("-opt") + 1]
            if not file.startswith("options/train_"):
                continue
            processes = int(next(w for w in words if w.startswith("--nproc")).partition("=")[2])
            opt = load_option_file(repo_root / file)
            batch = total_batch(opt, Launch("--launcher" in words, processes))
            assert batch is not None
            network = opt["network_g"]["type"]
            assert batch.total == batch.recipe == published.get(network, 64), (page, line)
            seen.add(file)
    assert len(seen) == len([*(repo_root / "options").glob("train_*.yml")])
