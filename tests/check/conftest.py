"""Small datasets and option files in which nothing is wrong, to be broken by tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.small.options import paired_options, photo_options

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def paired(tmp_path: Path) -> dict[str, Any]:
    """Options of a training of LMLT x2 on four pairs, validated on two of them."""
    return paired_options(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Any]:
    """Options of stage 1 on photographs of one's own."""
    return photo_options(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes options to a file."""

    def write(opt: dict[str, Any]) -> Path:
        path = tmp_path / "options.yml"
        path.write_text(yaml.safe_dump(opt, sort_keys=False))
        return path

    return write
