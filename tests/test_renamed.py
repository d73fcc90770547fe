"""Old names of modules: each warns, and gives the module of the new name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from lmlt_arch.renamed import MODULES, MOVED
from lmlt_arch.version import __version__


@pytest.mark.parametrize("old", MODULES)
def test_old_name(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"lmlt_arch.{old}", raising=False)
    new = f"lmlt_arch.{MODULES[old]}"
    with pytest.warns(DeprecationWarning, match=f"lmlt_arch.{old} is now {new}; the old name goes in 0.3"):
        module = import_module(f"lmlt_arch.{old}")
    assert module is import_module(new)
    assert module.__name__ == new


def test_warning_points_at_the_import() -> None:
    code = "import lmlt_arch\nfrom lmlt_arch.checkpoint import load_model\nfrom lmlt_arch import convert"
    run = [sys.executable, "-W", "default", "-c", code]
    shown = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "<string>:2: DeprecationWarning" in shown.stderr
    assert "<string>:3: DeprecationWarning" in shown.stderr


def test_other_names_are_as_unknown_as_before() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("lmlt_arch.no_such_module")


def test_old_names_end_with_0_3() -> None:
    assert tuple(map(int, __version__.split(".")[:2])) < (0, 3), "remove lmlt_arch/renamed.py"


@pytest.mark.parametrize("old", MOVED)
def test_moved_name(old: str) -> None:
    home, _, name = old.rpartition(".")
    current, _, new = MOVED[old].rpartition(".")
    of_module = home.removeprefix("lmlt_arch.") in MODULES
    sys.modules.pop(home, None) if of_module else None
    warned = f"{home} is now" if of_module else f"{old} is now {MOVED[old]}"
    with pytest.warns(DeprecationWarning, match=warned):
        found = getattr(import_module(home), name)
    assert found is getattr(import_module(current), new)


def test_names_that_never_were() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        import_module("realsr.degradation").nothing  # noqa: B018
