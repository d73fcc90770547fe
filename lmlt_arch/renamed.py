"""Old names, which go on working until 0.3 with a warning that gives the new one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

MODULES = {
    "archs.arguments": "archs.common.arguments",
    "archs.attention": "archs.common.attention",
    "archs.esc_arch": "archs.esc.esc",
    "archs.esc_fp_arch": "archs.esc.esc_fp",
    "archs.esc_layers": "archs.esc.blocks",
    "archs.esc_lte_arch": "archs.lte.networks",
    "archs.esc_real_arch": "archs.esc.esc_real",
    "archs.layers": "archs.common.layers",
    "archs.lmlt_arch": "archs.lmlt.network",
    "archs.lte_arch": "archs.lte.decoder",
    "archs.padding": "archs.common.padding",
    "archs.scale_conversion": "archs.common.scale_conversion",
    "archs.upsample": "archs.esc.upsample",
    "checkpoint": "checkpoints.load",
    "checkpoint_set": "checkpoints.sets",
    "convert": "checkpoints.convert",
    "data.arbitrary_scale_dataset": "data.datasets.any_scale",
    "data.downsample_image_dataset": "data.datasets.downsample",
    "data.files": "data.listing",
    "data.lmdb_store": "data.lmdb.store",
    "data.paired_crop_dataset": "data.datasets.paired_crop",
    "data.raw_lmdb": "data.lmdb.raw",
    "evaluation.errors": "errors",
    "facts": "checkpoints.metadata",
    "inference.any_size": "inference.engine.any_scale",
    "inference.tiles": "inference.engine.tiles",
    "models.arbitrary_scale_model": "models.any_scale_model",
    "models.base_model": "models.plugin_model",
    "safetensors_file": "checkpoints.safetensors_file",
    "spandrel_support": "export.spandrel_support",
}
"""Old and new names below `lmlt_arch`, of the modules that other programs may import."""

MOVED = {
    "lmlt_arch.data.files.DataSetError": "lmlt_arch.data.listing.DatasetError",
    "lmlt_arch.facts.NetworkFacts": "lmlt_arch.checkpoints.metadata.NetworkMetadata",
    "realsr.degradation.Draws": "realsr.degradation.DegradationSample",
    "realsr.degradation.OptionError": "lmlt_arch.options.OptionError",
    "realsr.degradation.read_gt_usm": "lmlt_arch.options.read_gt_usm",
    "realsr.degradation.read_options": "lmlt_arch.options.read_degradation",
    "realsr.degradation.read_scale": "lmlt_arch.options.read_scale",
}
"""Old and new places of names that modules export."""


class RenamedModules:
    """Finds a module of `MODULES` under its old name, as the same object as under the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The place of an old name; None for every other name."""
        package, _, old = fullname.partition(".")
        return ModuleSpec(fullname, cast(Any, self)) if package == "lmlt_arch" and old in MODULES else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system to make an empty one."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module that is meant in the place of the empty one."""
        old = module.__name__
        new = f"lmlt_arch.{MODULES[old.partition('.')[2]]}"
        warn_renamed(old, new)
        sys.modules[old] = current = import_module(new)
        for name, target in MOVED.items():
            if name.rpartition(".")[0] == old:
                setattr(current, name.rpartition(".")[2], _named(target))


def warn_renamed(old: str, new: str) -> None:
    """Warn that a name has changed; the warning points at the caller of the caller.

    Args:
        old: the name that was used.
        new: the name to use.
    """
    warnings.warn(f"{old} is now {new}; the old name goes in 0.3", DeprecationWarning, stacklevel=3)


def moved(module: str, name: str) -> Any:
    """What a module exported as `name` before it moved; for the `__getattr__` of a module.

    Raises:
        AttributeError: the module never had such a name.
    """
    new = MOVED.get(f"{module}.{name}")
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn_renamed(f"{module}.{name}", new)
    return _named(new)


def _named(name: str) -> Any:
    home, _, attribute = name.rpartition(".")
    return getattr(import_module(home), attribute)
