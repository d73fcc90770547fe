"""Old names of modules: each warns, and gives the module of the new name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from lmlt_arch.renamed import MODULES, MOVED, renamed_keyword
from lmlt_arch.version import __version__


@pytest.mark.parametrize("old", MODULES)
def test_old_name(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    new = MODULES[old]
    import_module(old.partition(".")[0])
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}; the old name goes in 0.3"):
        module = import_module(old)
    assert module is import_module(new)
    assert module.__name__ == new


def test_warning_points_at_the_import() -> None:
    code = """\
import lmlt_arch
from lmlt_arch.checkpoint import load_model
from lmlt_arch import convert
from realsr.degradation import Draws
from lmlt_arch.inference.upscaler import Enlarged
from lmlt_arch.inference.video import VideoError
from lmlt_arch.inference.video import upscale_video
"""
    run = [sys.executable, "-W", "default", "-c", code]
    shown = subprocess.run(run, capture_output=True, text=True, check=True)
    lines = [line for line in shown.stderr.splitlines() if "DeprecationWarning" in line]
    assert [line.partition(" DeprecationWarning")[0] for line in lines] == [
        f"<string>:{number}:" for number in range(2, 8)
    ]


def test_other_names_are_as_unknown_as_before() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("lmlt_arch.no_such_module")


def test_old_names_end_with_0_3() -> None:
    assert tuple(map(int, __version__.split(".")[:2])) < (0, 3), "remove lmlt_arch/renamed.py"


@pytest.mark.parametrize("old", MOVED)
def test_moved_name(old: str) -> None:
    home, _, name = old.rpartition(".")
    current, _, new = MOVED[old].rpartition(".")
    of_module = home in MODULES
    sys.modules.pop(home, None) if of_module else None
    warned = f"{home} is now" if of_module else f"{old} is now {MOVED[old]}"
    with pytest.warns(DeprecationWarning, match=warned):
        found = getattr(import_module(home), name)
    assert found is getattr(import_module(current), new)


def test_names_that_never_were() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        import_module("realsr.degradation").nothing  # noqa: B018


def test_old_keyword() -> None:
    @renamed_keyword("draws", "sample")
    def rows(sample: int) -> int:
        return sample

    with pytest.warns(DeprecationWarning, match="draws of .*rows is now sample") as found:
        assert rows(draws=3) == 3  # type: ignore[call-arg]
    assert found[0].filename == __file__
    assert rows(4) == rows(sample=4) == 4
