"""What the plugin adds to BasicSR's registries, and how: under plain names that yield to the user's own."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from lmlt_arch.hook.telling import tell_once

PROVIDED: dict[str, dict[str, str]] = {
    "ARCH_REGISTRY": {
        **dict.fromkeys(
            ("LMLT", "ESC", "ESCFP", "ESCReal", "ESCRealM", "ESCLTE", "ESCFPLTE", "LMLTLTE"),
            "lmlt_arch.archs",
        ),
        **dict.fromkeys(("LMLTVariant", "ESCVariant"), "lmlt_arch.archs.ablation"),
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

_REGISTRIES = "basicsr.utils.registry"
_PACKAGES = ("lmlt_arch", "realsr")
_SUFFIX = "_basicsr"


def after(module: str, names: dict[str, Any]) -> None:
    """Offer our names once the registries exist, and load them once BasicSR is whole.

    In between (our models subclass BasicSR's) a name is loaded when it is asked for. A BasicSR without such
    registries, as forks of old releases are, is left alone.
    """
    try:
        if module == _REGISTRIES:
            for registry, provided in PROVIDED.items():
                if isinstance(getattr(names.get(registry), "_obj_map", None), dict):
                    _offer(names[registry], provided)
        elif module == "basicsr" and not _plugin_is_mid_import():
            for registry in PROVIDED:
                table = getattr(sys.modules.get(_REGISTRIES), registry, None)
                if isinstance(table, _Yielding):
                    table.keys()
    except Exception as error:
        tell_once(f"our names could not be registered ({error!r}); BasicSR goes on without them.")


def registered() -> dict[str, dict[str, str]]:
    """For each registry, our names and the module that each now comes from ('' if it is not there).

    Raises:
        ImportError: BasicSR is not installed or does not import.
    """
    registries = import_module(_REGISTRIES)
    return {
        registry: {
            name: getattr(getattr(registries, registry).get(name), "__module__", "")
            if name in getattr(registries, registry)
            else ""
            for name in provided
        }
        for registry, provided in PROVIDED.items()
    }


def holds_ours(registry: str, name: object) -> bool:
    """Whether the class that a registry now gives for a name is ours.

    A name alone says nothing: a fork or a user may have registered a class of their own under it.

    Args:
        registry: such as `MODEL_REGISTRY`.
        name: as in an option file, so it may be anything.
    """
    if not isinstance(name, str):
        return False
    found = registered_class(registry, name)
    return name in PROVIDED.get(registry, ()) if found is None else _is_of_the_house(found)


def derives_from_ours(registry: str, name: str) -> bool:
    """Whether the class that a registry now gives for a name is ours or derives from one of ours."""
    return holds_ours(registry, name) or our_base(registered_class(registry, name)) is not None


def our_base(found: object) -> Any:
    """The nearest class of ours from which a class descends, itself included; None if there is none."""
    classes = inspect.getmro(found) if inspect.isclass(found) else ()
    return next((base for base in classes if _is_of_the_house(base)), None)


def effective_model(opt: Mapping[str, Any]) -> str:
    """The model type that is built: where SRModel knows no FFT loss, ours takes its place."""
    name, train = opt.get("model_type"), opt.get("train")
    asks = name == "SRModel" and isinstance(train, Mapping) and train.get("fft_opt")
    replaced = asks and not sr_model_reads("fft_opt") and holds_ours("MODEL_REGISTRY", "LMLTModel")
    return "LMLTModel" if replaced else str(name)


def runs_ours(opt: Mapping[str, Any]) -> bool:
    """Whether the model that is built is of a class of ours, or of a user's that derives from one."""
    return derives_from_ours("MODEL_REGISTRY", effective_model(opt))


def registered_class(registry: str, name: str) -> Any:
    """What a registry of BasicSR gives for a name; None if it knows none, or if BasicSR was not imported."""
    table = getattr(sys.modules.get(_REGISTRIES), registry, None)
    if table is None:
        return None
    known = dict(iter(table))
    return known.get(name, known.get(name + _SUFFIX))


def sr_model_reads(key: str) -> bool:
    """Whether BasicSR's own SRModel mentions an option: forks taught theirs more than stock has."""
    module = sys.modules.get("basicsr.models.sr_model")
    try:
        return module is not None and f"'{key}'" in inspect.getsource(module).replace('"', "'")
    except OSError:
        return False


def _is_of_the_house(found: object) -> bool:
    return str(getattr(found, "__module__", "")).partition(".")[0] in _PACKAGES


def _plugin_is_mid_import() -> bool:
    """Whether the user imported a module of ours that needs BasicSR, which is why BasicSR loads now."""
    return any(
        name.startswith(("lmlt_arch.", "realsr."))
        and getattr(getattr(module, "__spec__", None), "_initializing", False)
        for name, module in list(sys.modules.items())
    )


def _offer(registry: Any, provided: dict[str, str]) -> None:
    """Make a stock registry know `provided` too, without importing anything yet."""
    stock = type(registry)
    registry._offered, registry._ours = dict(provided), {}
    registry.__class__ = type(stock.__name__, (_Yielding, stock), {"_stock": stock})


class _Yielding:
    """What a stock registry becomes: our names are in it, each until the user registers one like it."""

    _stock: Any
    _obj_map: dict[str, object]
    _offered: dict[str, str]
    _ours: dict[str, object]

    def get(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self._load([name])
        return self._stock.get(self, name, *args, **kwargs)

    def keys(self) -> Any:
        self._load([*self._offered])
        return self._stock.keys(self)

    def __iter__(self) -> Iterator[tuple[str, object]]:
        self._load([*self._offered])
        return iter(self._obj_map.items())

    def __contains__(self, name: object) -> bool:
        return name in self._obj_map or name in self._offered

    def _do_register(self, name: str, obj: object, *args: Any, **kwargs: Any) -> None:
        # The suffix came with BasicSR 1.4.
        suffix = kwargs.get("suffix", args[0] if args else None)
        full = f"{name}_{suffix}" if isinstance(suffix, str) else name
        self._offered.pop(full, None)
        if full in self._ours and self._obj_map.get(full) is self._ours.pop(full):
            del self._obj_map[full]
        self._stock._do_register(self, name, obj, *args, **kwargs)

    def _load(self, names: list[str]) -> None:
        """Import those of `names` that are still only offered; what cannot load goes, with a warning."""
        failed: dict[str, Exception] = {}
        for name in names:
            home = self._offered.pop(name, None)
            if home is None or name in self._obj_map:
                continue
            try:
                self._obj_map[name] = self._ours[name] = getattr(import_module(home), name)
            except Exception as error:
                if _plugin_is_mid_import():
                    self._offered[name] = home
                else:
                    failed[name] = error
        if failed:
            causes = "; ".join(dict.fromkeys(repr(error) for error in failed.values()))
            tell_once(f"BasicSR goes on without {', '.join(failed)} ({causes}).")
