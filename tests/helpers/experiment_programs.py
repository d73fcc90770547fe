"""The programs in scripts/experiments, called in this process."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path


def program(repo_root: Path, name: str) -> Callable[[list[str]], int]:
    """The `main` of a program, which takes a command line."""
    names = runpy.run_path(str(repo_root / "scripts/experiments" / f"{name}.py"))
    main: Callable[[list[str]], int] = names["main"]
    return main
