"""The table of mends, and what runs them around BasicSR's modules.

A mend is one small function with the reason for it in its docstring. It names the module it concerns and
brings a probe, and it runs only where the probe says that this BasicSR on these libraries needs it. A mend
that fails warns and leaves BasicSR as it was.
"""

import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

Names = dict[str, Any]
"""What a module defines (its `__dict__`): probes look into it, mends replace entries of it."""

SKIP = "LMLT_SKIP_MENDS"
"""Environment variable with names of mends to leave out, comma separated: shows what a mend is good for."""

HOMES = ("mends_import", "mends_distributed", "mends_training", "mends_losses", "mends_data", "mends_options")

applied: dict[str, str] = {}
"""Mends at work in this process: name and reason."""

_APPLIED_HERE = "_lmlt_mends"
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Mend:
    """One mend: `run` is a context manager held while the module runs, or takes the names it defined."""

    name: str
    reason: str
    modules: tuple[str, ...]
    needed: Callable[[Names], bool]
    run: Callable[..., Any]


_during: list[Mend] = []
_after: list[Mend] = []


def mend_during(
    *modules: str, needed: Callable[[Names], bool]
) -> Callable[[Callable[[], AbstractContextManager[None]]], Callable[[], AbstractContextManager[None]]]:
    """Enter the decorated context manager while each of `modules` is imported."""

    def enter(run: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
        _during.append(_mend(run, modules, needed))
        return run

    return enter


def mend_after(
    *modules: str, needed: Callable[[Names], bool]
) -> Callable[[Callable[[Names], None]], Callable[[Names], None]]:
    """Call the decorated function with the names of each of `modules` once it is imported."""

    def enter(run: Callable[[Names], None]) -> Callable[[Names], None]:
        _after.append(_mend(run, modules, needed))
        return run

    return enter


def all_mends() -> list[Mend]:
    """Every mend there is."""
    _load()
    return [*_during, *_after]


@contextmanager
def during(module: str, names: Names) -> Iterator[None]:
    """Hold the mends that `module` needs while it runs; `names` is its still empty namespace."""
    _load()
    names.pop(_APPLIED_HERE, None)
    with ExitStack() as stack:
        for mend in _due(_during, module, names):
            with _warning(mend.name):
                stack.enter_context(mend.run())
                applied[mend.name] = mend.reason
        yield


def after(module: str, names: Names) -> None:
    """Run the mends for `module` on `names`, each at most once on the same names."""
    done = names.setdefault(_APPLIED_HERE, set())
    for mend in _due(_after, module, names):
        if mend.name not in done:
            with _warning(mend.name):
                mend.run(names)
                done.add(mend.name)
                applied[mend.name] = mend.reason


def skipped(name: str) -> bool:
    """Whether the environment says to leave this mend out."""
    return name in os.environ.get(SKIP, "").split(",")


def summary(function: Callable[..., Any]) -> str:
    """First paragraph of a docstring, on one line."""
    return " ".join((function.__doc__ or "").partition("\n\n")[0].split())


def always(names: Names) -> bool:
    """The probe of a mend for something that no version of BasicSR or its libraries gets right."""
    return True


def uses(function: Callable[..., Any], *words: str) -> bool:
    """Whether the code of a stock function still has these names, attributes or strings in it."""
    code = inspect.unwrap(function).__code__
    return {*words} <= {*code.co_names, *(c for c in code.co_consts if isinstance(c, str))}


def _mend(run: Callable[..., Any], modules: tuple[str, ...], needed: Callable[[Names], bool]) -> Mend:
    return Mend(run.__name__.replace("_", "-"), summary(run), modules, needed, run)


@cache
def _load() -> None:
    for home in HOMES:
        with _warning(home):
            import_module(f"lmlt_arch.hook.{home}")


def _due(mends: list[Mend], module: str, names: Names) -> Iterator[Mend]:
    for mend in mends:
        if module in mend.modules and not skipped(mend.name):
            due = False
            with _warning(mend.name):
                due = mend.needed(names)
            if due:
                yield mend


@contextmanager
def _warning(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        warnings.warn(
            f"basicsr-lmlt: {name} could not be applied ({error!r}); BasicSR goes on without it. "
            "`lmlt doctor` says more.",
            RuntimeWarning,
            stacklevel=2,
        )
