"""Data scaling: shares that are nested, and a planted learner whose quality follows the number of images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.experiment_programs import program
from helpers.small.evaluations import photo, save

from common.training import Schedule
from data_scaling import (
    Curve,
    counts_of,
    nested_subsets,
    outcome_of,
    run_data_scaling,
)
from lmlt_arch.archs import ESC
from lmlt_arch.errors import UsageError

NETWORK = {
    "dim": 4,
    "pdim": 2,
    "kernel_size": 3,
    "n_blocks": 1,
    "conv_blocks": 1,
    "window_size": 4,
    "num_heads": 1,
    "upscaling_factor": 2,
}


def test_shares_are_nested_and_follow_the_seed() -> None:
    names = [f"{number}.png" for number in range(200)]
    counts = counts_of(200, [1, 0.001, 0.1, 0.1])
    assert counts == [1, 20, 200]
    one, some, whole = nested_subsets(names, counts, seed=3)
    assert set(one) < set(some) < set(whole) == set(names)
    assert nested_subsets(names, counts, seed=3) == [one, some, whole]
    others = [nested_subsets(names, counts, seed=seed)[1] for seed in range(20)]
    assert len({tuple(subset) for subset in others}) == 20
    # None is preferred: each of 200 images is in a tenth of 20 subsets, in 2 of them on average.
    assert max(sum(name in subset for subset in others) for name in names) <= 9
    for shares in ([], [0], [1.1]):
        with pytest.raises(UsageError, match="--shares"):
            counts_of(200, shares)


class Learner:
    """Gives a network that repeats pixels, off by less the more images it was given: 6.02 dB per doubling."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[tuple[int, int, list[str]]] = []

    def __call__(self, options: dict[str, Any]) -> Path:
        data = options["datasets"]["train"]
        names = Path(data["meta_info_file"]).read_text().split()
        self.seen.append((options["manual_seed"], data["dataset_enlarge_ratio"], names))
        network = ESC(**NETWORK)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            network.to_img.bias += 0.4 / len(names)
        path = self.folder / f"{options['name']}.pth"
        torch.save({"params": network.state_dict()}, path)
        return path


def test_a_planted_learner(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "train" / f"{number}.png", photo(32, 32))
    # What repeating pixels makes of the small image: nothing but the planted error is left.
    save(tmp_path / "data" / "HR" / "flat.png", np.full((48, 48, 3), 90, dtype=np.uint8))
    learner = Learner(tmp_path)
    outcome = run_data_scaling(
        {"network_g": {"type": "ESC", **NETWORK}, "scale": 2, "train": TRAIN, "datasets": {"train": {}}},
        learner,
        Schedule(tmp_path / "train", 10, 2, 8),
        tmp_path / "runs",
        shares=[0.125, 0.25, 0.5, 1],
        seeds=[0, 1],
        data=[tmp_path / "data"],
        device=torch.device("cpu"),
    )
    (result,) = outcome.result["results"]
    assert result["images"] == [1, 2, 4, 8]
    doubling = result["db_per_doubling"]
    # Luma of 8 bits is rounded; the planted value is 20 log10(2).
    assert doubling["low"] - 0.1 < 20 * math.log10(2) < doubling["high"] + 0.1
    assert doubling["value"] == pytest.approx(20 * math.log10(2), abs=0.15)
    assert [(seed, ratio, len(names)) for seed, ratio, names in learner.seen] == [
        (seed, ratio, count) for seed in (0, 1) for count, ratio in ((1, 800), (2, 400), (4, 200), (8, 100))
    ]
    assert all(name in {f"{n}.png" for n in range(8)} for _, _, names in learner.seen for name in names)


TRAIN = {"total_iter": 100, "scheduler": {"type": "MultiStepLR", "milestones": [50, 90]}, "warmup_iter": 20}


def test_gain_and_spread_by_hand() -> None:
    noisy = {n: [30 + 0.5 * math.log2(n) + e for e in (-0.1, 0.0, 0.1)] for n in (1, 4, 16, 64)}
    even = {n: [31.0] for n in noisy}
    outcome = outcome_of([Curve("rising", 28.0, noisy), Curve("flat", 28.0, even)], {})
    rising, flat = outcome.result["results"]
    assert rising["db_per_doubling"]["value"] == pytest.approx(0.5)
    assert rising["db_per_doubling"]["low"] < 0.5 < rising["db_per_doubling"]["high"]
    assert rising["db_per_doubling"]["low"] > 0.4
    assert rising["psnr"][0]["std"] == pytest.approx(0.1)
    assert flat["db_per_doubling"]["value"] == pytest.approx(0)
    assert flat["psnr"][0]["std"] is None
    assert "| 31.000 |" in outcome.summary
    json.dumps(outcome.result, allow_nan=False)
    outcome.figure.canvas.draw()


def test_what_the_program_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = program("data_scaling")
    save(tmp_path / "HR" / "cat.png", photo())
    needed = ["--data", str(tmp_path), "--device", "cpu", "-o", str(tmp_path / "found")]
    photos = ["--train", str(tmp_path / "HR")]
    for wrong, message in (
        (["--train", str(tmp_path / "none")], "no such folder"),
        ([*photos, "--network", "dim"], "--network dim: give KEY=VALUE"),
        ([*photos, "--network", "dim=9"], "dim must be a multiple of 4"),
        ([*photos, "--seeds", "1", "1"], "--seeds must be distinct"),
        ([*photos, "--iterations", "0"], "must be above 0"),
        ([*photos, "--shares", "2"], "--shares must be"),
    ):
        assert main([*needed, *wrong]) == 2
        assert message in capsys.readouterr().err
