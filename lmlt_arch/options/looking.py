"""Access to values of options that may still have any mistake."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lmlt_arch.names import PROVIDED, effective_model, holds_ours, registered_class
from lmlt_arch.options.fields import with_numbers
from lmlt_arch.options.registries import registered

MODELS = PROVIDED["MODEL_REGISTRY"]
"""Our model types."""


class Family(NamedTuple):
    """What kind of model the options are for; None: not known, since others' classes may read any key."""

    real: bool | None
    gan: bool | None
    synthesizes: bool


def model_family(opt: Mapping[str, Any]) -> Family:
    """What kind of model the options are for."""
    name = effective_model(opt)
    found = registered_class("MODEL_REGISTRY", name)
    # A user's class degrades as the class of ours from which it descends.
    homes = [base.__module__ for base in inspect.getmro(found)] if inspect.isclass(found) else []
    real = any(home.startswith("realsr.") for home in homes or [MODELS.get(name, "") + "."])
    synthesizes = real and opt.get("high_order_degradation", True) is not False
    if holds_ours("MODEL_REGISTRY", name):
        return Family(real, "GAN" in name, synthesizes)
    return Family(None, None, synthesizes)


def at(opt: object, *keys: str | int) -> Any:
    """The value at a place, or None."""
    for key in keys:
        opt = opt.get(key) if isinstance(opt, Mapping) else None
    return opt


def section(opt: object, *keys: str | int) -> Mapping[str, Any]:
    """The section at a place; empty if there is none."""
    found = at(opt, *keys)
    return found if isinstance(found, Mapping) else {}


def path_of(name: object) -> Path:
    """A path that an option file names, `~` expanded as BasicSR does it: what cannot be expanded stays."""
    try:
        return Path(str(name)).expanduser()
    except RuntimeError:
        return Path(str(name))


def number(opt: object, *keys: str | int) -> Any:
    """The number at a place, or None if there is none."""
    value = with_numbers(at(opt, *keys))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def whole(opt: object, *keys: str | int) -> int | None:
    """The whole number above 0 at a place, or None if there is none."""
    value = number(opt, *keys)
    return int(value) if value is not None and value == value // 1 and value > 0 else None


def is_ours(opt: Mapping[str, Any]) -> bool:
    """Whether one of our models is asked for, perhaps misspelled; a user's class of that name is not."""
    name = effective_model(opt)
    if name in (registered("MODEL_REGISTRY") or MODELS):
        return holds_ours("MODEL_REGISTRY", name)
    return bool(difflib.get_close_matches(name, MODELS, n=1, cutoff=0.8))
