"""The published networks as data, collected from the families, and how one is found."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from lmlt_arch.archs.common.description import Preset
from lmlt_arch.archs.families import PRESETS

__all__ = ["PRESETS", "Preset", "find_preset"]


def find_preset(arch: type, kwargs: Mapping[str, Any]) -> str | None:
    """The published network that has these hyperparameters.

    Args:
        arch: a network's class.
        kwargs: all of its constructor arguments that shape it, `upscaling_factor` included.

    Returns:
        A key of `PRESETS`, or None.
    """
    defaults = {name: p.default for name, p in inspect.signature(arch).parameters.items()}
    shape = {name: value for name, value in kwargs.items() if name != "upscaling_factor"}
    for name, preset in PRESETS.items():
        same_class = arch.__name__ == preset.arch and kwargs["upscaling_factor"] in preset.scales
        if same_class and all(v == preset.kwargs.get(k, defaults[k]) for k, v in shape.items()):
            return name
    return None
