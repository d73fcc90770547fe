"""The small networks against the project's own recorded figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.golden_rules import (
    Case,
    check_recorded,
    describe_state,
    fill,
    gradient_figures,
    read_case,
    uniform,
)
from helpers.numerics import DEVICE
from helpers.small.networks import SMALL

from lmlt_arch import archs

FIGURES = Path(__file__).resolve().parents[1] / "golden"
RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-5}


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Case:
    return read_case(FIGURES / f"{request.param}.json")


def build(figures: Case, dtype: torch.dtype) -> archs.SRNetwork:
    network: archs.SRNetwork = getattr(archs, figures["class"])(**figures["kwargs"])
    fill(network)
    return network.to(DEVICE, dtype)


def test_every_small_network_has_its_figures() -> None:
    recorded = {path.stem: read_case(path) for path in FIGURES.glob("*.json")}
    assert recorded.keys() == SMALL.keys()
    for name, small in SMALL.items():
        assert (recorded[name]["class"], recorded[name]["kwargs"]) == (small.arch, small.kwargs), name


@pytest.mark.parametrize("figures", SMALL, indirect=True)
def test_state_dict(figures: Case) -> None:
    assert describe_state(build(figures, torch.float64)) == figures["state_dict"]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("figures", SMALL, indirect=True)
def test_output(figures: Case, dtype: torch.dtype, mode: str) -> None:
    case = figures[mode]
    x = uniform(case["input_shape"], case["input_seed"]).to(DEVICE, dtype)
    with torch.no_grad():
        check_recorded(build(figures, dtype).train(mode == "train")(x), case["output"], RELATIVE[dtype])


@pytest.mark.parametrize("figures", SMALL, indirect=True)
def test_gradient(figures: Case) -> None:
    case, recorded = figures["train"], figures["gradient"]
    x = uniform(case["input_shape"], case["input_seed"]).to(DEVICE, torch.float64)
    _, found = gradient_figures(build(figures, torch.float64), x)
    assert found["loss"] == pytest.approx(recorded["loss"], rel=1e-8)
    assert found["input_l2"] == pytest.approx(recorded["input_l2"], rel=1e-8)
    for (name, norm, _), (wanted, wanted_norm) in zip(
        found["parameters"], recorded["parameters"], strict=True
    ):
        assert name == wanted
        assert norm == pytest.approx(wanted_norm, rel=1e-8, abs=1e-12), name
