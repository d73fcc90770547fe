"""Output of `lmlt doctor`; and commands find the BasicSR that a training there would find."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.throwaway import Environment, stock_basicsr

from lmlt_arch.hook import diagnosis, releases

pytestmark = pytest.mark.slow

# Two programs that say which BasicSR they see: one as a training starts, one as a console script does.
TRAINING = """
from importlib.util import find_spec

spec = find_spec("basicsr")
print(spec and spec.origin)
"""
COMMAND = f"""
from lmlt_arch.hook import checkout

checkout.see_as_torchrun()
{TRAINING}
"""


def _lmlt(environment: Environment) -> Path:
    return environment.home / "bin" / "lmlt"


@pytest.fixture
def never_built(tmp_path: Path) -> Path:
    """A checkout of BasicSR as git gives it."""
    checkout = tmp_path / "BasicSR"
    shutil.copytree(stock_basicsr(), checkout / "basicsr", ignore=shutil.ignore_patterns("version.py"))
    (checkout / "VERSION").write_text("1.4.2\n")
    return checkout


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """As much of a checkout as a look-up needs."""
    package = tmp_path / "checkout" / "basicsr"
    (package / "utils").mkdir(parents=True)
    for name in ("__init__.py", "utils/__init__.py", "utils/registry.py"):
        (package / name).touch()
    (package / "train.py").write_text(TRAINING)
    return package.parent


def test_installed_basicsr_before_a_checkout(installed: Environment, never_built: Path) -> None:
    said = installed.run(_lmlt(installed), "doctor", cwd=never_built)
    assert f"1.4.2, as released, {installed.site / 'basicsr'}" in said
    for words in ("SDPA", "functional-tensor", "LMLT, ESC, ESCFP", "FFTLoss", "Training works here."):
        assert words in said
    assert "yours" not in said


def test_checkout_never_built(plugged: Environment, never_built: Path) -> None:
    said = plugged.run(_lmlt(plugged), "doctor", cwd=never_built)
    assert f"1.4.2, as released, {never_built / 'basicsr'}" in said
    assert "Training works here." in said


def test_without_basicsr(plugged: Environment, never_built: Path) -> None:
    """In a folder from which `torchrun basicsr/train.py` would not start either."""
    said = plugged.run("-m", "lmlt_arch", "doctor", cwd=never_built / "basicsr", fails=True)
    assert "Training cannot work here" in said
    assert "BasicSR is not installed. To install it" in said


def test_without_the_hook(stock: Environment, repo_root: Path, tmp_path: Path) -> None:
    said = stock.run(
        "-m", "lmlt_arch", "doctor", cwd=tmp_path, fails=True, variables={"PYTHONPATH": str(repo_root)}
    )
    assert "The import hook is not in this environment" in said
    assert "LMLT, ESC, ESCFP" in said


def test_torso_of_a_basicsr(plugged: Environment, small: Path) -> None:
    (small / "basicsr" / "train.py").write_text("from basicsr import nothing_like_it\n")
    said = plugged.run(_lmlt(plugged), "doctor", cwd=small, fails=True)
    assert "no version, none of the releases 1.3.4.9 to 1.4.2" in said
    assert "does not import: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("case", ["plugged", "installed", "pythonpath", "inside", "elsewhere"])
def test_a_command_sees_what_training_sees(
    case: str, plugged: Environment, installed: Environment, small: Path, tmp_path: Path
) -> None:
    command = tmp_path / "bin" / "command.py"
    command.parent.mkdir()
    command.write_text(COMMAND)
    environment = installed if case in ("installed", "pythonpath") else plugged
    folder = {"inside": small / "basicsr", "elsewhere": tmp_path}.get(case, small)
    variables = {"PYTHONPATH": str(small)} if case == "pythonpath" else {}
    sees = environment.run(command, cwd=folder, variables=variables).strip()
    home = installed.site if case == "installed" else small
    assert sees == ("None" if case in ("inside", "elsewhere") else str(home / "basicsr" / "__init__.py"))
    if folder == small:
        assert environment.run("basicsr/train.py", cwd=small, variables=variables).strip() == sees


def test_an_editable_basicsr_before_a_checkout(plugged: Environment, small: Path, tmp_path: Path) -> None:
    """Its finder comes after Python's own, and still before a checkout that only our hook finds."""
    elsewhere = tmp_path / "elsewhere" / "basicsr"
    shutil.copytree(small / "basicsr", elsewhere)
    finder = f"""
import sys
from importlib.util import spec_from_file_location

class Editable:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "basicsr":
            return spec_from_file_location(
                name, {str(elsewhere / "__init__.py")!r}, submodule_search_locations=[{str(elsewhere)!r}]
            )

sys.meta_path.append(Editable)
"""
    command = tmp_path / "command.py"
    command.write_text(finder + COMMAND)
    (small / "basicsr" / "train.py").write_text(finder + TRAINING)
    for program in (command, Path("basicsr/train.py")):
        assert plugged.run(program, cwd=small).strip() == str(elsewhere / "__init__.py")


def test_command_where_something_else_is_called_basicsr(plugged: Environment, tmp_path: Path) -> None:
    (tmp_path / "basicsr.py").write_text("print('imported')\n")
    said = plugged.run(
        *("-m", "lmlt_arch", "check", "-opt", "no.yml"),
        cwd=tmp_path,
        fails=True,
        variables={"PYTHONPATH": str(tmp_path)},
    )
    assert said == "lmlt check: error: BasicSR is not installed; `lmlt doctor` says how to install it\n"


def test_our_launchers_are_no_basicsr(
    libraries: Path, copy_of_checkout: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Their folder is on the path of an editable install, where Python takes it for an empty package."""
    environment = Environment(tmp_path / "env", libraries)
    checkout = copy_of_checkout(tmp_path / "checkout")
    (environment.site / "editable.pth").write_text(f"{checkout}\n")
    for start in (["-m", "lmlt_arch"], ["-c", "from lmlt_arch.cli import main; raise SystemExit(main())"]):
        said = environment.run(*start, "check", "-opt", "no.yml", cwd=checkout, fails=True)
        assert said == "lmlt check: error: BasicSR is not installed; `lmlt doctor` says how to install it\n"
    assert environment.run("-m", "lmlt_arch", "--help", cwd=tmp_path).startswith("usage: lmlt [-h]")


def test_names_of_a_users_own_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from basicsr.utils.registry import LOSS_REGISTRY

    class FFTLoss:
        pass

    rows = dict(diagnosis._registered([]))
    assert "yours" not in " ".join(rows.values())
    assert {"RealHATGANModel", "ESCRealMSEModel"} <= set(rows["model"].split(", "))
    monkeypatch.setitem(LOSS_REGISTRY._obj_map, "FFTLoss", FFTLoss)
    assert dict(diagnosis._registered([]))["loss"] == f"FFTLoss (yours, from {__name__})"


def test_a_section_that_fails_is_a_problem() -> None:
    def rows(problems: list[str]) -> diagnosis.Rows:
        yield "first", "well"
        raise KeyError("second")

    problems: list[str] = []
    found = [*diagnosis._guarded("Rows", rows, problems)]
    assert problems == ["Rows: KeyError('second')."]
    assert found == [("first", "well"), ("failed", "KeyError('second')")]


def test_advice_fits_the_python() -> None:
    build = "pip install --no-deps --no-build-isolation basicsr"
    for old in ((3, 10), (3, 12)):
        assert build in diagnosis.advice_for(old)
        assert "3.12" not in diagnosis.advice_for(old)
    for new in ((3, 13), (3, 14)):
        assert build not in diagnosis.advice_for(new)
        assert "Python 3.12 or older builds" in diagnosis.advice_for(new)


def _change(package: Path) -> None:
    with (package / "models" / "sr_model.py").open("a") as file:
        file.write("# mine\n")


def _other_line_ends(package: Path) -> None:
    for path in package.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def _clone(package: Path) -> None:
    _change(package)
    (package.parent / ".git").mkdir()
    (package.parent / ".git/config").write_text("url = https://github.com/XPixelGroup/BasicSR.git\n")


def _fork(package: Path) -> None:
    _change(package)
    (package.parent / ".git").mkdir()
    (package.parent / ".git/config").write_text("url = git@github.com:someone/BasicSR.git\n")


def _pip_from_git(package: Path) -> None:
    _change(package)
    (package.parent / "basicsr-1.4.2.dist-info").mkdir()
    (package.parent / "basicsr-1.4.2.dist-info/direct_url.json").write_text(
        '{"url": "https://github.com/xinntao/BasicSR", "vcs_info": {"vcs": "git"}}'
    )


def _old(package: Path) -> None:
    _change(package)
    (package.parent / "VERSION").write_text("1.2.0+7a7\n")


UNLIKE = "1.4.2, unlike the release 1.4.2: a fork or a changed copy"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_line_ends, "1.4.2, as released"),
        (_change, UNLIKE),
        (_fork, UNLIKE),
        (_clone, "1.4.2, between releases (git checkout)"),
        (_pip_from_git, "1.4.2, between releases (git checkout)"),
        (_old, "1.2.0+7a7, none of the releases 1.3.4.9 to 1.4.2: another one, a fork or a changed copy"),
    ],
)
def test_releases_and_forks(change: Callable[[Path], None], words: str, never_built: Path) -> None:
    change(never_built / "basicsr")
    assert releases.describe(never_built / "basicsr") == words


def test_release_whose_version_is_unknown(never_built: Path) -> None:
    (never_built / "VERSION").unlink()
    assert releases.describe(never_built / "basicsr") == "1.4.2, as released"
