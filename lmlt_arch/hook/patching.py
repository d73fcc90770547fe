"""The table of patches, and the functions that apply them around BasicSR's modules.

A patch is one small function whose docstring gives the reason for it. Its decorator names the modules that it
changes, the functions and classes that it replaces there (`changes`) and a probe (`needed`). It is applied
where all of these exist and the probe finds the fault in this BasicSR on these libraries: in a fork that
lacks one of the names, or has corrected the fault, nothing is done.

A patch that fails leaves BasicSR as it was. Nothing here raises an error.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeVar

from lmlt_arch.hook import warn
from lmlt_arch.hook.warn import warn_once
from lmlt_arch.names import patch_names, runs_ours

Names = dict[str, Any]
"""The namespace of a module (its `__dict__`): probes look into it, patches replace entries of it."""

SKIP = "LMLT_SKIP_MENDS"
"""Environment variable with names of patches to leave out, comma separated."""

ASK = "LMLT_MENDS"
"""Environment variable with names of patches that change results, comma separated, or `all`: they then act
for models that are not ours as well. The option file's `lmlt: mends` has the same effect."""

applied: dict[str, str] = {}
"""Patches that were applied in this process: name and reason."""

all_entered = False
"""Whether the names of all patches are known; `patches.load` sets it."""

_APPLIED_HERE = "_lmlt_patches"
_prepared: set[str] = set()

EVERYWHERE = "all, where stock code stops"
"""Acts for all models: stock code fails here, so nothing that it can do is changed."""

OURS = "our models"
"""Acts in runs of our models, and of models derived from them; see `names.runs_ours`."""

ON_REQUEST = "our models; others that ask"
"""Acts for other models on request only: stock code works and computes something else; see `wanted`."""

NO_CODE = "all, in place of running code"
"""Acts for all models: stock code runs a text as a program; here it is data with the same meaning."""

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Patch:
    """One patch.

    Attributes:
        name: in messages, option files and the environment variables.
        reason: the fault that it corrects.
        modules: the modules that it changes.
        needed: the probe: whether a module has the fault, given its namespace.
        run: applies the patch: a function of the module's namespace, or a context manager around its import.
        changes: functions and classes that must exist and may be replaced, such as `BaseModel.validation`.
        acts: for which models: `EVERYWHERE`, `OURS`, `ON_REQUEST` or `NO_CODE`.
    """

    name: str
    reason: str
    modules: tuple[str, ...]
    needed: Callable[[Names], bool]
    run: Callable[..., Any]
    changes: tuple[str, ...] = ()
    acts: str = EVERYWHERE


_finding: list[Patch] = []
_before: list[Patch] = []
_during: list[Patch] = []
_after: list[Patch] = []


def always(names: Names) -> bool:
    """The probe of a patch for a fault that every version of BasicSR and its libraries has."""
    return True


def patch_finding(*modules: str) -> Callable[[_F], _F]:
    """Enter the decorated function, which returns the spec of each of `modules`; the finder calls it."""
    return partial(_enter, _finding, modules, needed=always)


def patch_libraries(*packages: str, needed: Callable[[Names], bool] = always) -> Callable[[_F], _F]:
    """Call the decorated function, without arguments, before the first module of these packages runs.

    For patches that depend on the libraries alone; `needed` gets an empty namespace.
    """
    return partial(_enter, _before, packages, needed=needed)


def patch_during(*modules: str, needed: Callable[[Names], bool] = always) -> Callable[[_F], _F]:
    """Enter the decorated context manager while each of `modules` is imported."""
    return partial(_enter, _during, modules, needed=needed)


def patch_after(
    *modules: str,
    changes: tuple[str, ...],
    needed: Callable[[Names], bool] = always,
    acts: str = EVERYWHERE,
) -> Callable[[_F], _F]:
    """Call the decorated function with the namespace of each of `modules` after its import; see `Patch`."""
    return partial(_enter, _after, modules, needed=needed, changes=changes, acts=acts)


def entered() -> list[Patch]:
    """The patches of all modules that have been imported."""
    return [*_finding, *_before, *_during, *_after]


def before(package: str) -> None:
    """Run the patches of libraries for a package, once in this process."""
    if package in _prepared:
        return
    _prepared.add(package)
    for variable in (SKIP, ASK):
        _warn_of_unknown(variable, _listed(os.environ.get(variable, "")))
    for patch in _due(_before, package, {}):
        with guarded(patch.name):
            patch.run()
            applied[patch.name] = patch.reason


@contextmanager
def during(module: str, names: Names) -> Iterator[None]:
    """Hold the patches that `module` needs while it runs; `names` is its still empty namespace."""
    names.pop(_APPLIED_HERE, None)
    with ExitStack() as stack:
        for patch in _due(_during, module, names):
            stack.enter_context(_held(patch))
        yield


def after(module: str, names: Names) -> None:
    """Run the patches for `module` on `names`, each at most once on the same names."""
    done = names.setdefault(_APPLIED_HERE, set())
    for patch in _due(_after, module, names):
        if patch.name not in done:
            with guarded(patch.name), _restoring(patch.changes, names):
                patch.run(names)
                done.add(patch.name)
                applied[patch.name] = patch.reason


def skipped(name: str) -> bool:
    """Whether the environment variable `SKIP` names this patch."""
    return name in _listed(os.environ.get(SKIP, ""))


def wanted(name: str, opt: Mapping[str, Any]) -> bool:
    """Whether a patch that acts `ON_REQUEST` acts in a run: for our models, and for others that ask for it.

    Args:
        name: of the patch.
        opt: the options of the run.
    """
    in_file = _asked_in(opt.get("lmlt"))
    _warn_of_unknown("lmlt: mends", in_file)
    asked = [*_listed(os.environ.get(ASK, "")), *in_file]
    return name in asked or "all" in asked or runs_ours(opt)


def after_parsing(names: Names, act: Callable[[dict[str, Any]], None]) -> None:
    """Let a patch of `parse_options` see, and change, the options that it returns."""
    stock = names["parse_options"]

    @wraps(stock)
    def parse_options(*args: Any, **kwargs: Any) -> Any:
        parsed = stock(*args, **kwargs)
        # Releases differ in whether the arguments come along.
        act(parsed[0] if isinstance(parsed, tuple) else parsed)
        return parsed

    names["parse_options"] = parse_options


def caller() -> Names:
    """Namespace of the module that called a patched function, past the functions of this package."""
    frame = sys._getframe(1)
    while str(frame.f_globals.get("__package__")).startswith(__package__) and frame.f_back:
        frame = frame.f_back
    return frame.f_globals


def starts_a_run() -> bool:
    """Whether a pipeline of BasicSR called, which then makes folders and loads the files of its options."""
    return "make_exp_dirs" in caller()


def summary(function: Callable[..., Any]) -> str:
    """First paragraph of a docstring, on one line."""
    return " ".join((function.__doc__ or "").partition("\n\n")[0].split())


def uses(function: Callable[..., Any], *words: str) -> bool:
    """Whether the code of a function still mentions all these names or strings."""
    code = inspect.unwrap(function).__code__
    return {*words} <= {*code.co_names, *(c for c in code.co_consts if isinstance(c, str))}


def _enter(
    table: list[Patch],
    modules: tuple[str, ...],
    run: _F,
    *,
    needed: Callable[[Names], bool],
    changes: tuple[str, ...] = (),
    acts: str = EVERYWHERE,
) -> _F:
    name = run.__name__.replace("_", "-")
    table.append(Patch(name, summary(run), modules, needed, run, changes, acts))
    patch_names.append(name)
    return run


def _due(patches: list[Patch], module: str, names: Names) -> Iterator[Patch]:
    for patch in patches:
        if module not in patch.modules or skipped(patch.name):
            continue
        due = False
        with guarded(patch.name):
            due = all(callable(_find(names, path)) for path in patch.changes) and patch.needed(names)
        if due:
            yield patch


def _find(names: Names, path: str) -> Any:
    """What a module defines under a path such as `SRModel.test`, or None."""
    first, *rest = path.split(".")
    found = names.get(first)
    for attribute in rest:
        found = getattr(found, attribute, None) if isinstance(found, type) else None
    return found


@contextmanager
def _restoring(paths: tuple[str, ...], names: Names) -> Iterator[None]:
    """Restore what was at these paths if there is an error."""
    stock = {path: _find(names, path) for path in paths}
    try:
        yield
    except Exception:
        for path, value in stock.items():
            owner, _, attribute = path.rpartition(".")
            if owner:
                setattr(_find(names, owner), attribute, value)
            else:
                names[attribute] = value
        raise


@contextmanager
def _held(patch: Patch) -> Iterator[None]:
    context: AbstractContextManager[None] | None = None
    with guarded(patch.name):
        context = patch.run()
        context.__enter__()
        applied[patch.name] = patch.reason
    try:
        yield
    finally:
        if patch.name in applied and context is not None:
            with guarded(patch.name):
                context.__exit__(None, None, None)


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn an error of a patch, or of the module of patches `name`, into a warning."""
    try:
        yield
    except Exception as error:
        warn_once(f"{name} could not be applied ({error!r}); BasicSR goes on without it.")


def _asked_in(section: Any) -> list[Any]:
    """The names of patches in the section `lmlt` of an option file, which may hold anything."""
    if section is None:
        return []
    names = section.get("mends", []) if isinstance(section, Mapping) else section
    return names if isinstance(names, list) else [names]


def _warn_of_unknown(where: str, names: list[Any]) -> None:
    """Warn of names that no patch has."""
    if not all_entered:
        return
    known = {"all", *(patch.name for patch in entered())}
    for name in names:
        text = f"{where} names {name!r}, which is no patch."
        if name not in known and text not in warn.failures:
            warn_once(text)


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
