"""How the plugin's names get into BasicSR's registries: as plain names that yield to the user's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from lmlt_arch.hook.warn import warn_once
from lmlt_arch.names import PROVIDED, REGISTRIES


def after(module: str, names: dict[str, Any]) -> None:
    """Offer our names once the registries exist, and load them once BasicSR is imported completely.

    In between (our models subclass BasicSR's) a name is loaded on its first lookup. A BasicSR without such
    registries, as forks of old releases are, is left alone.

    Args:
        module: name of the module of BasicSR that was imported.
        names: what it defines.
    """
    try:
        if module == REGISTRIES:
            for registry, provided in PROVIDED.items():
                if isinstance(getattr(names.get(registry), "_obj_map", None), dict):
                    _offer(names[registry], provided)
        elif module == "basicsr" and not _plugin_is_mid_import():
            for registry in PROVIDED:
                table = getattr(sys.modules.get(REGISTRIES), registry, None)
                if isinstance(table, _Yielding):
                    table.keys()
    except Exception as error:
        warn_once(f"our names could not be registered ({error!r}); BasicSR goes on without them.")


def _plugin_is_mid_import() -> bool:
    """Whether the user imported a module of ours that needs BasicSR, which is why BasicSR loads now."""
    return any(
        name.startswith(("lmlt_arch.", "realsr."))
        and getattr(getattr(module, "__spec__", None), "_initializing", False)
        for name, module in list(sys.modules.items())
    )


def _offer(registry: Any, provided: dict[str, str]) -> None:
    """Add `provided` to a stock registry, without importing anything yet."""
    stock = type(registry)
    registry._offered, registry._ours = dict(provided), {}
    registry.__class__ = type(stock.__name__, (_Yielding, stock), {"_stock": stock})


class _Yielding:
    """A stock registry with our names in it, each until the user registers the same name."""

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
        """Import those of `names` that are only offered so far; drop those that fail, with a warning."""
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
            warn_once(f"BasicSR goes on without {', '.join(failed)} ({causes}).")
