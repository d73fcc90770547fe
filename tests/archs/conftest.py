"""Fixtures of the network tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.golden_rules import Case, read_case
from helpers.small_networks import SMALL, Small


@pytest.fixture(autouse=True)
def exact_and_single_threaded() -> Iterator[None]:
    """No shortened float32 products on a GPU; no threads, which only slow such small networks down."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> Small:
    """Every small network in turn."""
    return SMALL[request.param]


def golden_folder() -> Path:
    root = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("LMLT_SHARED", root.parent / "shared")) / "golden"


# Fields that some tests are about; the others take every case.
WANTED_KINDS = {"golden_extra": ("gradient", "trace", "scale_conversion", "convert")}


def golden_names(kinds: tuple[str, ...] | None) -> list[str]:
    """Recorded cases of the kinds, less those that record a fault of the published code (field `note`)."""
    names = []
    for path in sorted(golden_folder().glob("*.json")):
        if path.stem == "official_limits" or path.stem.startswith("esclte_"):
            continue
        case = read_case(path)
        if "note" not in case and (kinds is None or case["kind"] in kinds):
            names.append(path.stem)
    return names


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the golden fixtures every recorded case; without the folder, `shared_dir` skips the test."""
    for fixture in ("golden", "golden_extra"):
        if fixture in metafunc.fixturenames:
            names = golden_names(WANTED_KINDS.get(fixture)) or ["absent"]
            heavy = [pytest.param(n, marks=pytest.mark.slow if "esc_xl" in n else ()) for n in names]
            metafunc.parametrize(fixture, heavy, indirect=True)


@pytest.fixture
def golden(request: pytest.FixtureRequest, shared_dir: Path) -> Case:
    """A recorded run of the published code."""
    return read_case(shared_dir / "golden" / f"{request.param}.json")


@pytest.fixture
def golden_extra(request: pytest.FixtureRequest, shared_dir: Path) -> Case:
    """A recorded run with more than an output."""
    return read_case(shared_dir / "golden" / f"{request.param}.json")
