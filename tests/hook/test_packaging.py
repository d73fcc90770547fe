"""The plugin as wheel, sdist and editable install: what it brings, what it costs, what it leaves behind."""

from __future__ import annotations

import sys
import tarfile
import timeit
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.throwaway import Distributions, Environment

pytestmark = pytest.mark.slow

HOOK = "lmlt_basicsr_hook.pth"


def test_wheel_holds_the_two_packages_and_the_hook(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        names = wheel.namelist()
        record = wheel.read(next(name for name in names if name.endswith("RECORD"))).decode()
    assert {name.partition("/")[0] for name in names} == {
        "lmlt_arch",
        "realsr",
        HOOK,
        "basicsr_lmlt-0.1.0.dist-info",
    }
    assert {"lmlt_arch/py.typed", "realsr/py.typed", "lmlt_arch/hook/finder.py"} <= set(names)
    assert {"lmlt_arch/evaluation/compare/compare.html", "lmlt_arch/evaluation/benchmark/published.json"} <= {
        *names
    }
    assert f"\n{HOOK}," in f"\n{record}"


def test_sdist_holds_what_the_checkout_needs(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {HOOK, "setup.py", "basicsr/train.py", "basicsr/test.py", "options/train_LMLT_x4.yml"} <= names
    assert {"lmlt_arch/py.typed", "CITATION.cff", "LICENSE", "README.md"} <= names
    assert "basicsr/__init__.py" not in names


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_install_and_uninstall(
    kind: str,
    distributions: Distributions,
    libraries: Path,
    copy_of_checkout: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    environment = Environment(tmp_path / "env", libraries)
    before = environment.files()
    idle = environment.run("-c", "import sys; print(sorted(sys.modules))", cwd=tmp_path)
    if kind == "editable":
        environment.install("--editable", copy_of_checkout(tmp_path / "checkout"))
    else:
        environment.install(getattr(distributions, kind))
    assert (environment.site / HOOK).is_file()
    assert (environment.home / "bin" / "lmlt").is_file()
    where = environment.run("-c", "import lmlt_arch; print(lmlt_arch.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / ("checkout" if kind == "editable" else "env"))
    # A start that never imports BasicSR loads not one module more than before, in an editable install too.
    assert environment.run("-c", "import sys; print(sorted(sys.modules))", cwd=tmp_path) == idle
    environment.pip("uninstall", "--yes", "basicsr-lmlt")
    assert environment.files() == before


def test_hook_without_its_package(installed: Environment, libraries: Path, tmp_path: Path) -> None:
    """A `.pth` file left over, as after a deletion by hand, costs a warning and only when BasicSR is used."""
    environment = Environment(tmp_path / "env", libraries)
    (environment.site / HOOK).write_bytes((installed.site / HOOK).read_bytes())
    (environment.site / "basicsr.py").write_text("answer = 42\n")
    assert environment.run("-c", "pass", cwd=tmp_path) == ""
    said = environment.run("-c", "import basicsr; print(basicsr.answer)", cwd=tmp_path)
    assert "basicsr-lmlt does not work (ModuleNotFoundError" in said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "42"


COUNT = "print(sum(getattr(finder, 'owner', None) == 'basicsr-lmlt' for finder in sys.meta_path))"


@pytest.mark.parametrize("first", ["by the .pth file", "by a launcher"])
def test_hook_is_there_once(first: str, installed: Environment, plain: Environment, tmp_path: Path) -> None:
    """Site-packages read twice, those of the system besides, a wheel and an editable install, a launcher."""
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / HOOK).write_bytes((installed.site / HOOK).read_bytes())
    environment = installed if first == "by the .pth file" else plain
    said = environment.script(
        f"""
        import site, sys

        sys.path.append({str(installed.site)!r})
        from lmlt_arch.hook import finder

        finder.install()
        {COUNT}
        site.addsitedir({str(installed.site)!r})
        site.addsitedir({str(tmp_path / "system")!r})
        site.main()
        finder.install()
        {COUNT}
        """,
        cwd=tmp_path,
    )
    assert said.split() == ["1", "1"]


@pytest.mark.parametrize("flags", [[], ["-W", "error"]], ids=["warnings", "errors"])
@pytest.mark.parametrize("broken", ["package", "look-up"])
def test_hook_that_fails_stops_no_import(
    broken: str, flags: list[str], installed: Environment, tmp_path: Path
) -> None:
    """It warns once and skips no other finder: the one after it is the only one that has the name."""
    module = {"package": "None", "look-up": "Broken()"}[broken]
    (tmp_path / "program.py").write_text(
        f"""
import sys
from importlib.machinery import PathFinder

class Broken:
    def find_spec(self, *args):
        raise OSError("out of paper")

class Other:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("basicsr"):
            return PathFinder.find_spec(name, path or [{str(tmp_path / "elsewhere")!r}])

sys.meta_path.insert(1, Other)
sys.modules["lmlt_arch.hook.finder"] = {module}
import basicsr
import basicsr.part
print(basicsr.part.answer)
{COUNT}
"""
    )
    (tmp_path / "elsewhere/basicsr").mkdir(parents=True)
    (tmp_path / "elsewhere/basicsr/__init__.py").touch()
    (tmp_path / "elsewhere/basicsr/part.py").write_text("answer = 42\n")
    said = installed.run(*flags, "program.py", cwd=tmp_path)
    assert said.count("basicsr-lmlt does not work (") == 1
    assert said.splitlines()[-2:] == ["42", "0"]


def test_cost_of_the_hook(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (repo_root / HOOK).read_text().splitlines()[-1]
    monkeypatch.setattr(sys, "meta_path", [])

    def start() -> None:
        sys.meta_path.clear()
        exec(line)

    start()
    assert min(timeit.repeat(start, number=10, repeat=5)) / 10 < 1e-3
