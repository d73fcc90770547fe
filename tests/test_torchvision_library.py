"""Importing torchvision where its compiled library does not load."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# A torchvision whose library cannot load, whatever is installed here.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from lmlt_arch.torchvision_library import declare_missing_operators, operators_are_missing
if sys.argv[2] == "declared":
    assert operators_are_missing()
    declare_missing_operators()
    assert not operators_are_missing()
    declare_missing_operators()  # changes nothing
import torchvision
from torchvision.transforms.functional import rgb_to_grayscale
assert not any(name.startswith("lmlt_arch.hook") for name in sys.modules)
print("imported")
"""


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "not declared"])
def test_torchvision_imports_without_its_library(tmp_path: Path, declared: bool) -> None:
    spec = find_spec("torchvision")
    assert spec is not None and spec.origin is not None
    (tmp_path / "torchvision").mkdir()
    for item in Path(spec.origin).parent.iterdir():
        if not item.name.startswith(("_C", "__pycache__")):
            (tmp_path / "torchvision" / item.name).symlink_to(item)
    (tmp_path / "torchvision" / "_C.so").write_bytes(b"not a library")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "declared" if declared else ""]
    done = subprocess.run(command, capture_output=True, text=True)
    if declared:
        assert done.stdout == "imported\n", done.stderr
    else:
        assert "operator torchvision::nms does not exist" in done.stderr
