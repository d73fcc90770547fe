"""Checkpoints to export and convert."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from helpers.small.fixtures import checkpoint as checkpoint


@pytest.fixture(autouse=True)
def single_threaded() -> Iterator[None]:
    """Threads only slow such small networks down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
