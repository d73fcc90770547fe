"""Which package owns a class that an option file names, and so which keys can be checked.

The class that BasicSR's registry holds decides, never the name: users and forks register classes of their own
under any name, with keys of their own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from lmlt_arch.names import effective_model, holds_ours, our_base, registered_class
from lmlt_arch.options.datasets import DATASETS
from lmlt_arch.options.looking import at, is_ours, section
from lmlt_arch.options.mistakes import Mistake

_STOCK_MODEL = ("SRModel", "basicsr.models.sr_model")
# What BasicSR's pipeline reads itself, whatever the model, and of datasets, whatever their class.
_OF_PIPELINE = (
    *((key,) for key in ("name", "model_type", "num_gpu", "manual_seed", "path", "train", "val", "logger")),
    *(("train", key) for key in ("total_iter", "warmup_iter")),
    *(("val", key) for key in ("val_freq", "save_img")),
    *(("logger", key) for key in ("print_freq", "save_checkpoint_freq", "use_tb_logger", "wandb")),
)
OF_LOADER = (
    "name",
    "type",
    "num_worker_per_gpu",
    "batch_size_per_gpu",
    "dataset_enlarge_ratio",
    "prefetch_mode",
    "num_prefetch_queue",
    "pin_memory",
    "persistent_workers",
)
"""What BasicSR's loader reads of a dataset, whatever its class."""

# Where bases come from that read no options.
_LIBRARIES = ("builtins", "abc", "typing", "torch")


def model_class(opt: Mapping[str, Any]) -> Any:
    """The class of the model that is built, or None if no registry knows it."""
    return registered_class("MODEL_REGISTRY", effective_model(opt))


def is_stock_sr_model(opt: Mapping[str, Any]) -> bool:
    """Whether BasicSR's own SRModel is asked for."""
    found = model_class(opt)
    return (getattr(found, "__name__", None), getattr(found, "__module__", None)) == _STOCK_MODEL


def keys_are_known(opt: Mapping[str, Any]) -> bool:
    """Whether all keys that the model reads are known: ours, perhaps misspelled, or BasicSR's own SRModel."""
    return opt.get("model_type") is None or is_ours(opt) or is_stock_sr_model(opt)


def is_of_basicsr(opt: Mapping[str, Any]) -> bool:
    """Whether the model and all its bases are of the BasicSR that is installed."""
    found = model_class(opt)
    bases = inspect.getmro(found)[:-1] if inspect.isclass(found) else ()
    return bool(bases) and all(_package(base) == "basicsr" for base in bases)


def is_understood(opt: Mapping[str, Any]) -> bool:
    """Whether the model reads our keys as our schema defines them: also a class made from ours."""
    return keys_are_known(opt) or our_base(model_class(opt)) is not None


def converts_numbers(opt: Mapping[str, Any]) -> bool:
    """Whether the model converts numbers that YAML left as text: ours do."""
    return our_base(model_class(opt)) is not None or (keys_are_known(opt) and not is_stock_sr_model(opt))


def calls_are_known(opt: Mapping[str, Any], method: str) -> bool:
    """Whether a method of the model is known to call losses or metrics as ours do, or BasicSR's."""
    if keys_are_known(opt):
        return True
    found = model_class(opt)
    if not inspect.isclass(found) or our_base(found) is not None:
        return False
    if any("Video" in base.__name__ for base in inspect.getmro(found)):
        return False  # their tensors have other shapes
    return _package(getattr(found, method, None)) == "basicsr"


def has_stock_schedules(opt: Mapping[str, Any]) -> bool:
    """Whether the model's schedules are made by BasicSR's own method."""
    found = model_class(opt)
    return found is None or _package(getattr(found, "setup_schedulers", None)) == "basicsr"


def concerns(opt: Mapping[str, Any], mistake: Mistake) -> bool:
    """Whether a mistake that `Options` finds at a place is one for the classes that read it."""
    place, unknown_key = mistake.place, mistake.kind == "extra_forbidden"
    if place[:1] == ("datasets",):
        return len(place) < 3 or _concerns_set(opt, section(opt, *place[:2]), place[2], unknown_key)
    if keys_are_known(opt):
        read_by_fork = unknown_key and is_stock_sr_model(opt) and mentions(model_class(opt), place[-1])
        return not read_by_fork
    if unknown_key or our_base(model_class(opt)) is not None:
        return not unknown_key
    return place[:1] in _OF_PIPELINE if len(place) < 2 else place[:2] in _OF_PIPELINE


def _concerns_set(opt: Mapping[str, Any], data: Mapping[str, Any], key: object, unknown_key: bool) -> bool:
    kind = known_set(data)
    registered = registered_class("DATASET_REGISTRY", str(data.get("type")))
    if not kind and registered is not None:
        return key in OF_LOADER and not unknown_key
    if unknown_key and kind and not DATASETS[kind].is_ours and mentions(registered, key):
        return False
    return not unknown_key or keys_are_known(opt)


def has_own_keys(opt: Mapping[str, Any]) -> bool:
    """Whether the model is known to a registry, but not which keys it reads."""
    return model_class(opt) is not None and not keys_are_known(opt)


def known_set(data: object) -> str:
    """The type of a dataset if all its keys are known, because it is ours or BasicSR's own; or nothing."""
    kind = at(data, "type")
    if not isinstance(kind, str) or kind not in DATASETS:
        return ""
    if DATASETS[kind].is_ours:
        return kind if holds_ours("DATASET_REGISTRY", kind) else ""
    found = registered_class("DATASET_REGISTRY", kind)
    return kind if found is None or found.__module__ == DATASETS[kind].home else ""


def mentions(found: object, key: object) -> bool:
    """Whether the modules of a class and of its bases have a key as text in them; True if that is not known.

    In forks, BasicSR's classes read more keys than the released ones.
    """
    if found is None:
        return False
    names = {base.__module__ for base in inspect.getmro(found)} if inspect.isclass(found) else {_home(found)}
    sources = [_source(name) for name in names if name.partition(".")[0] not in _LIBRARIES]
    return any(source is None or f"'{key}'" in source for source in sources)


def source_of(found: object) -> str:
    """The code of the module that a class is defined in; empty if there is none."""
    return _source(_home(found)) or ""


def stock_optimizers(opt: Mapping[str, Any], known: Mapping[str, Callable[..., Any]]) -> list[str] | None:
    """Those of PyTorch's optimizers that the model's `get_optimizer` makes; None if it is not BasicSR's own.

    The method is called to find out, since releases differ.
    """
    found = model_class(opt)
    makers = [getattr(found, name, None) for name in ("setup_optimizers", "get_optimizer")]
    if any(_package(maker) != "basicsr" for maker in makers):
        return None
    return [name for name in known if _makes(found, name)]


def _makes(model: Any, name: str) -> bool:
    import torch

    try:
        model.get_optimizer(object.__new__(model), name, [torch.nn.Parameter(torch.zeros(2, 2))], lr=0.1)
    except NotImplementedError:
        return False
    except Exception:
        return True  # it knows the name, and misses arguments
    return True


def _home(found: object) -> str:
    return str(getattr(found, "__module__", ""))


def _package(found: object) -> str:
    return _home(found).partition(".")[0]


@cache
def _source(module: str) -> str | None:
    try:
        return inspect.getsource(sys.modules[module]).replace('"', "'")
    except (OSError, KeyError, TypeError):
        return None
