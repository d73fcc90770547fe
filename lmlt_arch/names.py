"""Names that the plugin registers with BasicSR, and whose class a registry has under each."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

PROVIDED: dict[str, dict[str, str]] = {
    "ARCH_REGISTRY": {
        **dict.fromkeys(
            ("LMLT", "ESC", "ESCFP", "ESCReal", "ESCRealM", "ESCLTE", "ESCFPLTE", "LMLTLTE"),
            "lmlt_arch.archs",
        ),
        "LMLTVariant": "lmlt_arch.archs.lmlt.variants",
        "ESCVariant": "lmlt_arch.archs.esc.variants",
    },
    "MODEL_REGISTRY": {
        **dict.fromkeys(("LMLTModel", "ESCModel", "ESRModel", "ArbitraryScaleModel"), "lmlt_arch.models"),
        **dict.fromkeys(
            ("ESCRealMSEModel", "ESCRealGANModel", "RealHATMSEModel", "RealHATGANModel"), "realsr.models"
        ),
    },
    "LOSS_REGISTRY": {"FFTLoss": "lmlt_arch.losses"},
    "DATASET_REGISTRY": {
        **dict.fromkeys(
            ("ArbitraryScaleDataset", "DownsampleImageDataset", "PairedCropDataset"), "lmlt_arch.data"
        ),
        "HQImageDataset": "realsr.data",
    },
    "METRIC_REGISTRY": dict.fromkeys(
        ("calculate_lpips", "calculate_dists", "calculate_pyiqa"), "lmlt_arch.metrics"
    ),
}
"""Registry of `basicsr.utils.registry` -> registered name -> module that exports it."""

REGISTRIES = "basicsr.utils.registry"
"""The module of BasicSR that holds its registries."""

SUFFIX = "_basicsr"
"""Ending under which BasicSR registers classes of its own; its lookup tries the bare name first."""

patch_names: list[str] = []
"""Names of all patches, which `lmlt: mends` may list; `lmlt_arch.hook.patching` enters them."""

_PACKAGES = ("lmlt_arch", "realsr")


def provider_modules() -> dict[str, dict[str, str]]:
    """For each registry, our names and the module that each now comes from ('' if the name is missing).

    Raises:
        ImportError: BasicSR is not installed or does not import.
    """
    registries = import_module(REGISTRIES)
    return {
        registry: {
            name: getattr(getattr(registries, registry).get(name), "__module__", "")
            if name in getattr(registries, registry)
            else ""
            for name in provided
        }
        for registry, provided in PROVIDED.items()
    }


def registered_class(registry: str, name: str) -> Any:
    """The class that a registry of BasicSR gives for a name; None for an unknown one, or without BasicSR.

    Args:
        registry: such as `MODEL_REGISTRY`.
        name: as in an option file.
    """
    table = getattr(sys.modules.get(REGISTRIES), registry, None)
    if table is None:
        return None
    known = dict(iter(table))
    return known.get(name, known.get(name + SUFFIX))


def without_suffixes(entries: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The entries of a registry by the shortest name under which it finds each of them."""
    table = dict(iter(entries))  # a registry has keys, but no items by key
    suffixed = {name: value for name, value in table.items() if name.endswith(SUFFIX)}
    return {name.removesuffix(SUFFIX): value for name, value in suffixed.items()} | {
        name: value for name, value in table.items() if name not in suffixed
    }


def holds_ours(registry: str, name: object) -> bool:
    """Whether the class that a registry now gives for a name is ours.

    The name alone does not decide: a fork or a user may have registered a class of their own under it.

    Args:
        registry: such as `MODEL_REGISTRY`.
        name: as in an option file, so it may be anything.
    """
    if not isinstance(name, str):
        return False
    found = registered_class(registry, name)
    return name in PROVIDED.get(registry, ()) if found is None else _is_ours(found)


def derives_from_ours(registry: str, name: str) -> bool:
    """Whether the class that a registry now gives for a name is ours or derives from one of ours."""
    return holds_ours(registry, name) or our_base(registered_class(registry, name)) is not None


def our_base(found: object) -> Any:
    """The nearest class of ours from which a class descends, itself included; None if there is none."""
    classes = inspect.getmro(found) if inspect.isclass(found) else ()
    return next((base for base in classes if _is_ours(base)), None)


def effective_model(opt: Mapping[str, Any]) -> str:
    """The model type that is built: an SRModel that does not read `fft_opt` is replaced by our LMLTModel."""
    name, train = opt.get("model_type"), opt.get("train")
    asks = name == "SRModel" and isinstance(train, Mapping) and train.get("fft_opt")
    replaced = asks and not sr_model_reads("fft_opt") and holds_ours("MODEL_REGISTRY", "LMLTModel")
    return "LMLTModel" if replaced else str(name)


def runs_ours(opt: Mapping[str, Any]) -> bool:
    """Whether the model that is built is of a class of ours, or of a user's that derives from one."""
    return derives_from_ours("MODEL_REGISTRY", effective_model(opt))


def sr_model_reads(key: str) -> bool:
    """Whether the installed BasicSR's SRModel mentions an option: forks read more keys than stock."""
    module = sys.modules.get("basicsr.models.sr_model")
    try:
        return module is not None and f"'{key}'" in inspect.getsource(module).replace('"', "'")
    except OSError:
        return False


def _is_ours(found: object) -> bool:
    return str(getattr(found, "__module__", "")).partition(".")[0] in _PACKAGES
