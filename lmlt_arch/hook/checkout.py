"""A BasicSR source checkout that Python's own finders do not see, or that was never built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from lmlt_arch.hook import patching

_as_torchrun = False


def see_as_torchrun() -> None:
    """Let this program find the BasicSR that `torchrun basicsr/train.py` finds in the working directory.

    For a program that starts elsewhere, such as `lmlt`. Something else called `basicsr` is hidden from it:
    looking it up gives None, importing it a ModuleNotFoundError.
    """
    global _as_torchrun
    _as_torchrun = True
    spec = look_up()
    if spec is not None and what_is_wrong(spec):
        # Python's own mark for "not to be imported", which find_spec heeds.
        sys.modules["basicsr"] = None  # type: ignore[assignment]


def look_up() -> ModuleSpec | None:
    """Spec of the package called `basicsr`, also of one that `see_as_torchrun` hides."""
    if sys.modules.get("basicsr", sys) is None:
        del sys.modules["basicsr"]
    with suppress(ImportError, ValueError):
        return find_spec("basicsr")
    return None


def folder_of(spec: ModuleSpec | None) -> Path | None:
    """Folder of BasicSR's package, which has registries since 1.3; None if the spec is of something else.

    The folder of our launchers is not BasicSR's. It is on the path where the plugin is installed as editable.
    """
    for folder in _folders(spec):
        # The content of an archive is not looked at.
        if any((folder / "utils").glob("registry.*")) or not folder.is_dir():
            return folder
    return None


def what_is_wrong(spec: ModuleSpec | None) -> str:
    """Why the package called `basicsr` is not BasicSR, in a sentence; '' if it is."""
    launchers = Path(__file__).resolve().parents[2] / "basicsr"
    places = [path for path in _folders(spec) if path.resolve() != launchers]
    if spec is None or not (places or spec.origin):
        return "BasicSR is not installed."
    if folder_of(spec) is not None:
        return ""
    place = ", ".join(map(str, places)) or spec.origin
    return (
        f"What is called `basicsr` here is not BasicSR, or older than 1.3: {place} has no utils/registry.py. "
        "Take it off Python's path or rename it."
    )


def _folders(spec: ModuleSpec | None) -> list[Path]:
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


@patching.patch_finding("basicsr")
def own_folder() -> ModuleSpec | None:
    """`torchrun basicsr/train.py` in a checkout of BasicSR does not find the package that the script lies in.

    The folder `basicsr` is then on the path instead of its parent. Returns the spec of the package.
    """
    if patching.skipped("own-folder"):
        return None
    # A working directory that is gone has no absolute path.
    with suppress(OSError):
        for folder in _folders_of_script():
            start = folder.resolve() / "__init__.py"
            if start.parent.name == "basicsr" and start.is_file():
                patching.applied["own-folder"] = patching.summary(own_folder)
                return spec_from_file_location(
                    "basicsr", start, submodule_search_locations=[str(start.parent)]
                )
    return None


def _folders_of_script() -> Iterator[Path]:
    """The folder of the running script, and that of the one that `torchrun basicsr/train.py` would run."""
    yield from map(Path, sys.path[:1])
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script:
        yield Path(script).parent
    if _as_torchrun and Path("basicsr", "train.py").is_file():
        yield Path("basicsr")


@patching.patch_finding("basicsr.version")
def missing_version(package: str) -> ModuleSpec | None:
    """A checkout of BasicSR that was never built lacks `version.py`, which its `__init__.py` imports.

    `package` is the folder of the package. Returns a spec of the module, made from the file `VERSION` that
    setup.py reads. Without that file, as in some forks, nothing is done.
    """
    source = Path(package).parent / "VERSION"
    if patching.skipped("missing-version") or not source.is_file():
        return None
    try:
        version = source.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    patching.applied["missing-version"] = patching.summary(missing_version)
    return ModuleSpec("basicsr.version", _VersionLoader(version))


class _VersionLoader(Loader):
    """Defines the names of `version.py` from the text file `VERSION` at the root of the checkout."""

    def __init__(self, version: str) -> None:
        self._version = version

    def exec_module(self, module: ModuleType) -> None:
        version = self._version
        numbers = tuple(int(part) if part.isdigit() else part for part in version.split("."))
        vars(module).update(__version__=version, __gitsha__="unknown", version_info=numbers)
