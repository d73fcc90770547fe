"""Old names, which go on working until 0.3 with a warning that gives the new one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar, cast

_P = ParamSpec("_P")
_R = TypeVar("_R")

MODULES = {
    "lmlt_arch.archs.ablation": "lmlt_arch.archs.lmlt.variants",
    "lmlt_arch.archs.arguments": "lmlt_arch.archs.common.arguments",
    "lmlt_arch.archs.attention": "lmlt_arch.archs.common.attention",
    "lmlt_arch.archs.esc_arch": "lmlt_arch.archs.esc.esc",
    "lmlt_arch.archs.esc_fp_arch": "lmlt_arch.archs.esc.esc_fp",
    "lmlt_arch.archs.esc_layers": "lmlt_arch.archs.esc.blocks",
    "lmlt_arch.archs.esc_lte_arch": "lmlt_arch.archs.lte.networks",
    "lmlt_arch.archs.esc_real_arch": "lmlt_arch.archs.esc.esc_real",
    "lmlt_arch.archs.layers": "lmlt_arch.archs.common.layers",
    "lmlt_arch.archs.lmlt_arch": "lmlt_arch.archs.lmlt.network",
    "lmlt_arch.archs.lte_arch": "lmlt_arch.archs.lte.decoder",
    "lmlt_arch.archs.padding": "lmlt_arch.archs.common.padding",
    "lmlt_arch.archs.scale_conversion": "lmlt_arch.archs.common.scale_conversion",
    "lmlt_arch.archs.upsample": "lmlt_arch.archs.esc.upsample",
    "lmlt_arch.checkpoint": "lmlt_arch.checkpoints.load",
    "lmlt_arch.checkpoint_set": "lmlt_arch.checkpoints.sets",
    "lmlt_arch.convert": "lmlt_arch.checkpoints.convert",
    "lmlt_arch.data.arbitrary_scale_dataset": "lmlt_arch.data.datasets.any_scale",
    "lmlt_arch.data.downsample_image_dataset": "lmlt_arch.data.datasets.downsample",
    "lmlt_arch.data.files": "lmlt_arch.data.listing",
    "lmlt_arch.data.lmdb_store": "lmlt_arch.data.lmdb.store",
    "lmlt_arch.data.paired_crop_dataset": "lmlt_arch.data.datasets.paired_crop",
    "lmlt_arch.data.raw_lmdb": "lmlt_arch.data.lmdb.raw",
    "lmlt_arch.evaluation.errors": "lmlt_arch.errors",
    "lmlt_arch.facts": "lmlt_arch.checkpoints.metadata",
    "lmlt_arch.inference.any_size": "lmlt_arch.inference.engine.any_scale",
    "lmlt_arch.inference.statistics": "lmlt_arch.inference.engine.shared_averages",
    "lmlt_arch.inference.tiles": "lmlt_arch.inference.engine.tiles",
    "lmlt_arch.models.arbitrary_scale_model": "lmlt_arch.models.any_scale_model",
    "lmlt_arch.models.base_model": "lmlt_arch.models.plugin_model",
    "lmlt_arch.safetensors_file": "lmlt_arch.checkpoints.safetensors_file",
    "lmlt_arch.spandrel_support": "lmlt_arch.export.spandrel_support",
    "realsr.degradation.draws": "realsr.degradation.sampling",
}
"""Old and new names of the modules that other programs may import."""

MOVED = {
    "lmlt_arch.archs.ablation.ESCVariant": "lmlt_arch.archs.esc.variants.ESCVariant",
    "lmlt_arch.archs.attention.WindowAttention": "lmlt_arch.archs.esc.attention.WindowAttention",
    "lmlt_arch.archs.lmlt_arch.CCM": "lmlt_arch.archs.lmlt.blocks.CCM",
    "lmlt_arch.archs.lmlt_arch.LevelAttention": "lmlt_arch.archs.lmlt.blocks.LevelAttention",
    "lmlt_arch.inference.upscaler.Enlarged": "lmlt_arch.inference.upscaler.Upscaled",
    "lmlt_arch.inference.video.OUTPUT_SUFFIXES": "lmlt_arch.inference.video.formats.OUTPUT_SUFFIXES",
    "lmlt_arch.inference.video.VIDEO_SUFFIXES": "lmlt_arch.inference.video.formats.VIDEO_SUFFIXES",
    "lmlt_arch.inference.video.VideoError": "lmlt_arch.inference.video.report.VideoError",
    "lmlt_arch.inference.video.VideoReport": "lmlt_arch.inference.video.report.VideoReport",
    "lmlt_arch.inference.video.usual_codec": "lmlt_arch.inference.video.formats.usual_codec",
    "lmlt_arch.data.files.DataSetError": "lmlt_arch.data.listing.DatasetError",
    "lmlt_arch.facts.NetworkFacts": "lmlt_arch.checkpoints.metadata.NetworkMetadata",
    "realsr.degradation.Draws": "realsr.degradation.DegradationSample",
    "realsr.degradation.draws.Draws": "realsr.degradation.sampling.DegradationSample",
    "realsr.degradation.draws.KernelDraws": "realsr.degradation.kernels.KernelSample",
    "realsr.degradation.draws.NoiseDraws": "realsr.degradation.sampling.NoiseSample",
    "realsr.degradation.draws.ResizeDraws": "realsr.degradation.sampling.ResizeSample",
    "realsr.degradation.draws.RoundDraws": "realsr.degradation.sampling.RoundSample",
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
        return ModuleSpec(fullname, cast(Any, self)) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system to make an empty one."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module that is meant in the place of the empty one."""
        old = module.__name__
        new = MODULES[old]
        warn_renamed(old, new)
        sys.modules[old] = current = import_module(new)
        for name, target in MOVED.items():
            if name.rpartition(".")[0] == old:
                setattr(current, name.rpartition(".")[2], _named(target))


def warn_renamed(old: str, new: str, *, above: int = 1) -> None:
    """Warn that a name has changed.

    Args:
        old: the name that was used.
        new: the name to use.
        above: how many callers lie between this function and the line that used the old name.
    """
    message = f"{old} is now {new}; the old name goes in 0.3"
    warnings.warn(message, DeprecationWarning, stacklevel=2 + above)


def moved(module: str, name: str) -> Any:
    """What a module exported as `name` before it moved; for the `__getattr__` of a module.

    Raises:
        AttributeError: the module never had such a name.
    """
    new = MOVED.get(f"{module}.{name}")
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn_renamed(f"{module}.{name}", new, above=2)
    return _named(new)


def renamed_keyword(old: str, new: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorator: a function takes an argument under its old name, too, and warns."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def accept(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if old in kwargs:
                warn_renamed(f"{old} of {function.__qualname__}", new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return accept

    return decorate


def _named(name: str) -> Any:
    home, _, attribute = name.rpartition(".")
    return getattr(import_module(home), attribute)
