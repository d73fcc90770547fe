"""Fixtures that the conftest files of several folders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.export_checkpoints import shallow_state
from helpers.small.networks import SMALL, Small


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


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint of the network that the test's parameter names; ESC without one."""
    path = tmp_path / "network.pth"
    torch.save({"params": shallow_state(getattr(request, "param", "ESC"))}, path)
    return path
