"""An option file and BasicSR's `parse_options`, as its own code or patched."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Parse = Callable[..., dict[str, Any]]

OPTIONS = """
name: tiny
num_gpu: 1
manual_seed: 0
datasets: {}
path: {}
dist_params: {backend: gloo, timeout: 90, port: 29500}
"""


@pytest.fixture
def parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parse:
    path = tmp_path / "tiny.yml"
    path.write_text(OPTIONS)

    def parse(names: dict[str, Any], *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(path), *arguments])
        options: dict[str, Any] = names["parse_options"](str(tmp_path), is_train=False)[0]
        return options

    return parse
