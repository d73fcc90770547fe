"""The import hook: finds the real BasicSR and runs patches and registration around its modules.

The one-line `lmlt_basicsr_hook.pth` calls `find_spec` for names below `basicsr` only, so an interpreter that
never imports BasicSR reads no file of this package. Nothing here imports torch: a mere look-up
(`importlib.util.find_spec("basicsr")`) must stay cheap, so the work waits until a module runs.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from functools import partial
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from lmlt_arch.hook import checkout, patches, patching, registration
from lmlt_arch.hook.warn import warn_once

OWNER = "basicsr-lmlt"


class Hook:
    """The finder that `install` puts first; it does the same as the one in the `.pth` file."""

    owner = OWNER

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of a BasicSR module whose loader also applies patches; None for every other name."""
        return find_spec(name, path, target) if name.partition(".")[0] == "basicsr" else None


def install() -> None:
    """Add the hook to this interpreter unless it is there already (for a plugin that is not installed)."""
    if not is_installed():
        sys.meta_path.insert(0, Hook())


def is_installed() -> bool:
    """Whether this interpreter has the hook."""
    return any(_is_ours(finder) for finder in sys.meta_path)


def find_spec(
    name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
) -> ModuleSpec | None:
    """Spec of a `basicsr` module as the other finders give it, its loader set to apply patches as well.

    Returns:
        None for a module that is not found or cannot be patched: the import then goes on without the hook.
    """
    spec = _real_spec(name, path, target)
    try:
        if spec is None:
            spec = _spec_of_checkout(name, path)
        return _with_patches(spec) if spec is not None else None
    except Exception as error:
        warn_once(f"{name} cannot be patched ({error!r}).")
        return None


def _spec_of_checkout(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    if name == "basicsr":
        return checkout.own_folder()
    if name == "basicsr.version" and path:
        return checkout.missing_version(next(iter(path)))
    return None


def _with_patches(spec: ModuleSpec) -> ModuleSpec | None:
    is_package = spec.submodule_search_locations is not None
    if not hasattr(spec.loader, "exec_module") or (spec.name == "basicsr" and not is_package):
        return None
    # A copy, since some loaders serve many modules. An attribute of the instance instead of a proxy keeps
    # everything else about the loader (its type, get_code for `python -m`, resources, pickling).
    loader: Any = copy.copy(spec.loader)
    vars(loader)["exec_module"] = partial(_exec_module, loader)
    spec.loader = loader
    return spec


def _exec_module(loader: Loader, module: ModuleType) -> None:
    vars(loader).pop("exec_module", None)
    # Read before it runs: a module may delete its own name.
    name, names = module.__name__, vars(module)
    patches.load()
    patching.before("basicsr")
    with patching.during(name, names):
        loader.exec_module(module)
    patching.after(name, names)
    registration.after(name, names)


def _is_ours(finder: object) -> bool:
    return getattr(finder, "owner", None) == OWNER


def _real_spec(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    """First spec with a loader: a folder without `__init__.py` must not hide a BasicSR found further on."""
    for finder in sys.meta_path:
        look = None if _is_ours(finder) else getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = look(name, path, target) if look else None
        if spec is not None and spec.loader is not None:
            return spec
    return None
