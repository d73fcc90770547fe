"""Modules of BasicSR as they come, beside the patched ones that this process has imported."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from basicsr.utils import registry

import basicsr
from lmlt_arch.hook import patches, patching


def run_afresh(name: str) -> dict[str, Any]:
    """Run a module of BasicSR once more, without any patch for run time, and give its names."""
    path = Path(basicsr.__file__).parent.joinpath(*name.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as monkey, patching.during(name, {"__file__": str(path)}):
        for each in ("ARCH", "MODEL", "LOSS", "METRIC", "DATASET"):
            monkey.setattr(getattr(registry, f"{each}_REGISTRY"), "_obj_map", {})
        spec.loader.exec_module(module)
    return vars(module)


def patch(name: str, names: dict[str, Any]) -> None:
    """Apply one patch, which must think itself needed."""
    (found,) = (each for each in patches.all_patches() if each.name == name)
    assert names["__name__"] in found.modules
    assert found.needed(names)
    found.run(names)
