"""Checkpoints to export and convert."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.export_checkpoints import shallow_state


@pytest.fixture(autouse=True)
def single_threaded() -> Iterator[None]:
    """Threads only slow such small networks down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint of the network that the test's parameter names; ESC without one."""
    path = tmp_path / "network.pth"
    torch.save({"params": shallow_state(getattr(request, "param", "ESC"))}, path)
    return path
