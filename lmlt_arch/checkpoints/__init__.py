"""Checkpoints: reading them safely, recognizing their networks, converting them.

Importing this package is cheap: torch and the networks load on first use of a name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmlt_arch.checkpoints.load import (
        CheckpointError,
        MissingKeyError,
        describe_state,
        load_for_training,
        load_model,
        load_state,
    )

__all__ = [
    "CheckpointError",
    "MissingKeyError",
    "describe_state",
    "load_for_training",
    "load_model",
    "load_state",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("lmlt_arch.checkpoints.load"), name)
