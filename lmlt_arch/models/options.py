"""Checks of an option file, made before anything is built: a slip of the pen must not pass in silence."""

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from basicsr.models import lr_scheduler
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY
from torch.optim import Optimizer

from lmlt_arch.options import Train

TRAIN_KEYS = tuple(Train.model_fields)
LOSS_KEYS = ("pixel_opt", "fft_opt", "perceptual_opt")

# Read by BasicSR's training loop from its own copy of the options, so converting them here would not help.
LOOP_NUMBERS = (
    ("train", "total_iter"),
    ("train", "warmup_iter"),
    ("logger", "print_freq"),
    ("logger", "save_checkpoint_freq"),
    ("val", "val_freq"),
)

# The base class, and two that want a closure or sparse gradients.
_UNFIT = ("Optimizer", "LBFGS", "SparseAdam")
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    name: value
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, Optimizer) and name not in _UNFIT
}
SCHEDULERS = {
    "MultiStepLR": lr_scheduler.MultiStepRestartLR,
    "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR,
    "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def checked_options(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Check the sections from which networks, losses and optimisers are built.

    Args:
        opt: BasicSR's options, as `parse_options` returns them.

    Returns:
        A copy in which numbers that YAML left as text, such as `5e-4`, are numbers.

    Raises:
        ValueError: naming the section, the unknown or misspelt key, and the nearest valid one.
    """
    checked = dict(opt)
    checked["network_g"] = _with_numbers(opt["network_g"])
    _check_part("network_g", checked["network_g"], _registered(ARCH_REGISTRY))
    _check_scale(checked)
    if opt["is_train"]:
        _check_loop_numbers(opt)
        checked["train"] = _with_numbers(opt["train"])
        _check_train(checked["train"])
    return checked


def _nearest(name: str, valid: Collection[str]) -> str:
    """Complete an error message about an unknown name: the nearest valid one, then all of them."""
    folded = {key.lower(): key for key in valid}
    close = difflib.get_close_matches(name.lower(), folded, n=1)
    return (f"did you mean {folded[close[0]]!r}? " if close else "") + f"Known: {', '.join(sorted(valid))}"


def _check_train(train: Mapping[str, Any]) -> None:
    _check_keys("train", train, TRAIN_KEYS)
    for key in ("optim_g", "scheduler"):
        if not train.get(key):
            raise ValueError(f"train: {key!r} is missing")
    _check_part("train: optim_g", train["optim_g"], OPTIMIZERS)
    if "lr" not in train["optim_g"]:
        raise ValueError("train: optim_g: 'lr' is missing")
    _check_part("train: scheduler", train["scheduler"], SCHEDULERS)
    for key in LOSS_KEYS:
        if train.get(key):
            _check_part(f"train: {key}", train[key], _registered(LOSS_REGISTRY))
    if not train.get("pixel_opt") and not train.get("perceptual_opt"):
        raise ValueError("train: 'pixel_opt' or 'perceptual_opt' is missing; 'fft_opt' only joins one")
    clip = train.get("grad_clip")
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, int | float) or clip <= 0):
        raise ValueError(
            f"train: grad_clip is the largest norm of all gradients, a number above 0; got {clip!r}"
        )


def _check_part(section: str, part: Mapping[str, Any], known: Mapping[str, Callable[..., Any]]) -> None:
    """Check a section that names a `type` and gives the arguments of its constructor."""
    if "type" not in part:
        raise ValueError(f"{section}: 'type' is missing. Known: {', '.join(sorted(known))}")
    kind = part["type"]
    if kind not in known:
        raise ValueError(f"{section}: unknown type {kind!r}; {_nearest(kind, known)}")
    parameters = inspect.signature(known[kind]).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        _check_keys(section, part, ["type", *(p.name for p in parameters)])


def _registered(registry: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The names by which BasicSR finds things: its lookup tries the bare name, then the one with a suffix."""
    entries = dict(iter(registry))
    plugins = {name: value for name, value in entries.items() if name.endswith("_basicsr")}
    return {name.removesuffix("_basicsr"): value for name, value in plugins.items()} | {
        name: value for name, value in entries.items() if name not in plugins
    }


def _check_keys(section: str, given: Iterable[str], valid: Collection[str]) -> None:
    for key in given:
        if key not in valid:
            raise ValueError(f"{section}: unknown key {key!r}; {_nearest(key, valid)}")


def _check_scale(opt: Mapping[str, Any]) -> None:
    network = opt["network_g"]
    given = {key: value for key, value in network.items() if key != "type"}
    bound = inspect.signature(_registered(ARCH_REGISTRY)[network["type"]]).bind_partial(**given)
    bound.apply_defaults()
    scale, factor = opt.get("scale"), bound.arguments.get("upscaling_factor")
    if None not in (scale, factor) and scale != factor:
        raise ValueError(f"scale is {scale}, but network_g: upscaling_factor is {factor}; they must be equal")


def _check_loop_numbers(opt: Mapping[str, Any]) -> None:
    for section, key in LOOP_NUMBERS:
        value = (opt.get(section) or {}).get(key)
        if isinstance(value, str):
            number = _with_numbers(value)
            advice = f"YAML read it as text; write {number}" if number != value else "a number is needed"
            raise ValueError(f"{section}: {key} is {value!r}: {advice}")


def _with_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_numbers(item) for item in value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() else number
    return value
