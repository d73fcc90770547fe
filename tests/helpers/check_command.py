"""`lmlt check` on option files that a test has broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmlt_arch.cli import main

Write = Callable[[dict[str, Any]], Path]
REMOVED = object()


def put(opt: dict[str, Any], place: str, value: Any) -> None:
    *sections, key = place.split(":")
    part = opt
    for section in sections:
        part = part[section]
    if value is REMOVED:
        del part[key]
    else:
        part[key] = value


def check(path: Path, *more: str) -> int:
    return main(["check", "-opt", str(path), "--no-timing", *more])


def findings(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    """What is found in a broken file; one finding a line."""
    before = sorted(path.parent.rglob("*"))
    assert check(path, *more) == 1
    said = capsys.readouterr().out.splitlines()
    *found, total = [line for line in said if not line.startswith(("batch: ", "note: "))]
    assert total == f"{len(found)} mistake{'s' if len(found) > 1 else ''} found"
    assert sorted(path.parent.rglob("*")) == before
    return found


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])
