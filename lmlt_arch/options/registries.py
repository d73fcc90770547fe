"""Lookup of the classes and functions that option files name, and of their signatures."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lmlt_arch.names import REGISTRIES, without_suffixes

# The base class, and two that want a closure or sparse gradients.
_UNFIT = ("Optimizer", "LBFGS", "SparseAdam")


def registered(registry: str) -> dict[str, Any] | None:
    """The entries of a registry, by the shortest names that its lookup finds; None without BasicSR."""
    if "basicsr" not in sys.modules and find_spec("basicsr") is None:
        return None
    import_module("basicsr")
    return without_suffixes(getattr(import_module(REGISTRIES), registry))


@cache
def optimizers() -> dict[str, Callable[..., Any]]:
    """PyTorch's optimizers."""
    import torch

    return {
        name: value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and name not in _UNFIT
    }


def schedulers() -> dict[str, Callable[..., Any]] | None:
    """BasicSR's schedules by the names that its models know; None without BasicSR."""
    if "basicsr" not in sys.modules and find_spec("basicsr") is None:
        return None
    home = import_module("basicsr.models.lr_scheduler")
    return {
        "MultiStepLR": home.MultiStepRestartLR,
        "MultiStepRestartLR": home.MultiStepRestartLR,
        "CosineAnnealingRestartLR": home.CosineAnnealingRestartLR,
    }


def keywords(function: Callable[..., Any]) -> list[str] | None:
    """The names of a function's arguments, or None if it takes any."""
    parameters = parameters_of(function).values()
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else [p.name for p in parameters]


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """A function's parameters by name, with their annotations as types where those can be found."""
    try:
        return inspect.signature(function, eval_str=True).parameters
    except Exception:  # of annotations that name what is not there at run time
        return inspect.signature(function).parameters


def missing_arguments(
    function: Callable[..., Any], given: Iterable[str], supplied: Iterable[str] = ()
) -> list[str]:
    """The names of the arguments that must be given and are not.

    Args:
        function: what is called.
        given: the keys that an option file has.
        supplied: arguments that the caller adds.
    """
    there = {*given, *supplied}
    return [
        name
        for name, parameter in parameters_of(function).items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in there
    ]


def needs_ground_truth(metric: Callable[..., Any]) -> bool:
    """Whether a metric needs a second image."""
    second = parameters_of(metric).get("img2")
    return second is not None and second.default is inspect.Parameter.empty
