"""Fixtures of all tests: the installed hook, and the reference material where it exists."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from lmlt_arch.hook import finder

finder.install()

# Where tests run in several processes, torchrun must not meet at one port.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["PET_MASTER_PORT"] = str(29500 + int(worker.removeprefix("gw")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of many slow tests come first: at the end, no process waits long for another."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir(repo_root: Path) -> Path:
    """Reference figures, benchmark images and official weights, which do not belong to the repository."""
    path = Path(os.environ.get("LMLT_SHARED", repo_root.parent / "shared"))
    if not path.is_dir():
        pytest.skip("the reference material is not beside this checkout")
    return path
