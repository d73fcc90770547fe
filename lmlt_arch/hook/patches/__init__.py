"""The patches, one module for each subject."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module

from lmlt_arch.hook import patching

_HOMES = (
    "lmlt_arch.hook.checkout",
    "lmlt_arch.hook.patches.imports",
    "lmlt_arch.hook.patches.distributed",
    "lmlt_arch.hook.patches.slurm",
    "lmlt_arch.hook.patches.resuming",
    "lmlt_arch.hook.patches.training",
    "lmlt_arch.hook.patches.losses",
    "lmlt_arch.hook.patches.data",
    "lmlt_arch.hook.patches.pairs",
    "lmlt_arch.hook.patches.options",
    "lmlt_arch.hook.patches.runs",
)


@cache
def load() -> None:
    """Enter all patches in the table; a module of patches that fails, or lacks a library, is left out."""
    for home in _HOMES:
        with patching.guarded(home):
            try:
                import_module(home)
            except ModuleNotFoundError as error:
                # A library that BasicSR needs is missing, which BasicSR will report.
                if (error.name or "").startswith("lmlt_arch"):
                    raise
    patching.all_entered = all(home in sys.modules for home in _HOMES)


def all_patches() -> list[patching.Patch]:
    """All patches."""
    load()
    return patching.entered()
