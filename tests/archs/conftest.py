"""Fixtures of the network tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.golden_rules import Case, published_case, published_names
from helpers.small.fixtures import exact_and_single_threaded as exact_and_single_threaded
from helpers.small.fixtures import small as small
from torch import Tensor

# Fields that some tests are about; the others take every case.
WANTED_KINDS = {"golden_extra": ("gradient", "trace", "scale_conversion", "convert")}
# The cases of these networks take long, and smaller ones go through the same code.
LARGE = ("esc_base", "esc_xl", "escfp_x", "escreal_x", "lmlt_base", "lmlt_large")


def golden_names(kinds: tuple[str, ...] | None) -> list[str]:
    """Recorded cases of the kinds, less those that record a fault of the published code (field `note`)."""
    names = []
    for name in published_names():
        case = published_case(name)
        of_any_scale = case["kind"] == "arbitrary_scale"
        if not of_any_scale and "note" not in case and (kinds is None or case["kind"] in kinds):
            names.append(name)
    return names


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the golden fixtures every recorded case."""
    for fixture in ("golden", "golden_extra"):
        if fixture in metafunc.fixturenames:
            names = golden_names(WANTED_KINDS.get(fixture))
            marked = [pytest.param(n, marks=pytest.mark.slow if n.startswith(LARGE) else ()) for n in names]
            metafunc.parametrize(fixture, marked, indirect=True)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Case:
    """A recorded run of the published code."""
    return published_case(request.param)


@pytest.fixture
def golden_extra(request: pytest.FixtureRequest) -> Case:
    """A recorded run with more than an output."""
    return published_case(request.param)


@pytest.fixture
def published_weights(request: pytest.FixtureRequest) -> Callable[[Case], dict[str, Tensor]]:
    """Finds the file of weights that a recorded run was made with; skips the test where it is absent."""

    def find(case: Case) -> dict[str, Tensor]:
        wanted = case["requires_file"]
        shared_dir: Path = request.getfixturevalue("shared_dir")
        for path in sorted((shared_dir / "weights").glob("*.pth")):
            if hashlib.sha256(path.read_bytes()).hexdigest() == wanted["sha256"]:
                state: dict[str, Tensor] = torch.load(path, weights_only=True)[wanted["key"]]
                return state
        pytest.skip(f"{wanted['file']} is not at hand")

    return find
