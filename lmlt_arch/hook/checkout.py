"""A BasicSR source checkout that Python's own finders do not see, or that was never built."""

import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from lmlt_arch.hook import mending


def package_of_running_script() -> ModuleSpec | None:
    """Spec of `basicsr` when the running script lies in that very folder.

    `torchrun basicsr/train.py` puts the folder `basicsr` on the path and not the one that holds it, so a
    stock checkout does not find its own package unless PYTHONPATH names it.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    for folder in (*sys.path[:1], *([Path(script).parent] if script else ())):
        start = Path(folder).resolve() / "__init__.py"
        if start.parent.name == "basicsr" and start.is_file() and not mending.skipped("own-folder"):
            mending.applied["own-folder"] = mending.summary(package_of_running_script)
            return spec_from_file_location("basicsr", start, submodule_search_locations=[str(start.parent)])
    return None


def version_of_unbuilt(package: str) -> ModuleSpec | None:
    """Spec of `basicsr.version`, which BasicSR's setup.py writes and a checkout never built lacks.

    `basicsr/__init__.py` imports it all the same. `package` is the folder of the package.
    """
    if mending.skipped("missing-version"):
        return None
    mending.applied["missing-version"] = mending.summary(version_of_unbuilt)
    return ModuleSpec("basicsr.version", _VersionLoader(Path(package).parent / "VERSION"))


class _VersionLoader(Loader):
    """Makes what the generated file holds from the text file `VERSION` at the root of the checkout."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def exec_module(self, module: ModuleType) -> None:
        version = self._source.read_text(encoding="utf-8").strip() if self._source.is_file() else "0.0.0"
        numbers = tuple(int(part) if part.isdigit() else part for part in version.split("."))
        vars(module).update(__version__=version, __gitsha__="unknown", version_info=numbers)
