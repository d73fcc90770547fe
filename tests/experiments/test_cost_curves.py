"""Exponents of planted costs, and points that are measured or say why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.experiment_programs import program
from torch import Tensor, nn

from common.statistics import Interval
from cost_curves import (
    Point,
    Sweep,
    fit_exponent,
    local_exponents,
    make_points,
    measure_points,
    outcome_of,
    verdict,
)
from lmlt_arch.errors import DataError
from lmlt_arch.evaluation.profile.sources import NetworkSource, find_source

SIDES = (32, 48, 64, 96, 128, 192, 256)
SWEEP = Sweep(SIDES, (1, 2, 4, 8), (), 64)


class OneAtATime(nn.Module):
    """Doubles images, but not two at once."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 TiB")
        return nn.functional.interpolate(x, scale_factor=2)


def source(name: str) -> NetworkSource:
    return NetworkSource(name, name, 2, False, False, lambda scale, attn: OneAtATime())


def planted(name: str, exponent: float, *, constant: float = 0.0) -> list[Point]:
    """Points along the area whose cost is a power of it, each run off by some percent."""
    draw = np.random.default_rng(5)
    points = []
    for side in SIDES:
        cost = constant + (side * side / 1000) ** exponent
        seconds = (cost * np.exp(0.05 * draw.standard_normal(9))).tolist()
        points.append(Point(name, "area", side**2, source(name), side, 1, seconds, int(1e6 * cost)))
    return points


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_planted_exponents(exponent: float) -> None:
    sizes = np.array(SIDES) ** 2
    exact = fit_exponent(sizes, 3e-7 * sizes**exponent)
    assert tuple(exact) == pytest.approx((exponent,) * 3)
    noise = np.exp(0.1 * np.random.default_rng(1).standard_normal(len(sizes)))
    found = fit_exponent(sizes, sizes**exponent * noise)
    assert found.low < exponent < found.high
    assert found.high - found.low < 0.4
    assert local_exponents(sizes, sizes**exponent) == pytest.approx([exponent] * (len(sizes) - 1))


def test_linear_and_quadratic_networks_are_distinguished() -> None:
    points = [*planted("linear", 1), *planted("quadratic", 2), *planted("with overhead", 1, constant=50)]
    outcome = outcome_of(points, SWEEP, repeats=9)
    found = {(curve["network"], curve["cost"]): curve for curve in outcome.result["curves"]}
    assert found["linear", "seconds"]["verdict"] == "linear"
    assert found["linear", "seconds"]["exponent"]["value"] == pytest.approx(1, abs=0.03)
    for cost in ("seconds", "memory"):
        assert found["quadratic", cost]["exponent"]["value"] == pytest.approx(2, abs=0.03)
        assert found["quadratic", cost]["verdict"] == "more than linear"
        assert found["with overhead", cost]["verdict"] == "less than linear"
        local = found["with overhead", cost]["local_exponents"]
        assert local[0] < 0.2 < local[-1], "what it becomes at the end"
    assert "| more than linear |" in outcome.summary
    outcome.figure.canvas.draw()


def test_a_wide_interval_decides_nothing() -> None:
    assert verdict(Interval(1.0, 0.8, 1.2)) == "linear"
    assert verdict(Interval(0.4, -0.1, 1.2)) == "undecided"
    assert verdict(Interval(1.4, 1.01, 2.2)) == "more than linear"
    assert verdict(Interval(0.4, -0.1, 0.99)) == "less than linear"


def test_an_exponent_needs_three_sizes() -> None:
    with pytest.raises(ValueError, match="needs 3 places"):
        fit_exponent([1, 1, 2, 2], [1, 1, 2, 2])
    (curve, _) = outcome_of(planted("short", 1)[:2], SWEEP, repeats=9).result["curves"]
    assert "exponent" not in curve


def test_what_does_not_run_says_why() -> None:
    points = make_points([source("mine")], Sweep((8, 12), (1, 2, 3), (4,), 8), Path("unused"))
    assert [(p.axis, p.size, p.side, p.batch) for p in points] == [
        ("area", 64, 8, 1),
        ("area", 144, 12, 1),
        ("batch", 1, 8, 1),
        ("batch", 2, 8, 2),
        ("batch", 3, 8, 3),
    ]
    measure_points(points, torch.device("cpu"), repeats=2, memory=False)
    assert [len(point.seconds) for point in points] == [2, 2, 2, 0, 0]
    assert {point.problem for point in points[3:]} == {"out of memory"}
    outcome = outcome_of(points, SWEEP, repeats=2)
    assert "mine, batch 2: out of memory" in outcome.summary
    with pytest.raises(DataError, match="nothing could be measured: out of memory"):
        outcome_of(points[3:], SWEEP, repeats=2)


@pytest.mark.parametrize("name", ["LMLT_tiny", "ESC_light", "ESC_Real", "basicsr:SwinIR-light"])
def test_windows(name: str, tmp_path: Path) -> None:
    points = make_points([find_source(name)], Sweep((8,), (), (2, 16), 32), tmp_path)
    windows = [point for point in points if point.axis == "window"]
    assert [(point.size, point.side) for point in windows] == [(4, 32), (256, 32)]
    for point, window in zip(windows, (2, 16), strict=True):
        # Its own process finds the same network by the text.
        network = find_source(point.source.text).build(4, None)
        sizes = {
            getattr(module, "window_size", getattr(module, "window", None)) for module in network.modules()
        }
        assert window in sizes


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = program("cost_curves")
    sizes = ["--sides", "8", "16", "24", "--batches", "1", "--windows", "2", "4", "8", "--window-image", "16"]
    prefix = ["--device", "cpu", "--no-memory", "-o", str(tmp_path / "found")]
    assert main(["--model", "LMLT_tiny", *sizes, "--repeats", "1", *prefix]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert {(curve["axis"], len(curve["sizes"])) for curve in found["curves"]} == {
        ("area", 3),
        ("batch", 1),
        ("window", 3),
    }
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    assert found["markdown"] in capsys.readouterr().out
    assert main(["--model", "LMLT_tiny", "--sides", "0", *prefix]) == 2
    assert main(["--model", "LMLT_tiny", *prefix, "--sides"]) == 2
