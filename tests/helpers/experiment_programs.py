"""The programs in scripts/experiments, called in this process."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType


def experiment_program(name: str) -> ModuleType:
    """The program of that name in `scripts/experiments`, which is on pytest's `pythonpath`."""
    return importlib.import_module(name)


def program(name: str) -> Callable[[list[str]], int]:
    """The `main` of a program, which takes a command line."""
    main: Callable[[list[str]], int] = experiment_program(name).main
    return main
