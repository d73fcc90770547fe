"""Declaration of torchvision's operators where its compiled library does not load."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch

# A library that is no longer referenced takes its declarations back.
_declared: list[torch.library.Library] = []


def operators_are_missing() -> bool:
    """Whether `import torchvision` would fail with `operator torchvision::nms does not exist`.

    Torchvision's wheel from PyPI beside a CPU torch cannot load its `_C` library.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules:
        return False
    with suppress(OSError):
        for library in Path(spec.origin).parent.glob("_C.*"):
            torch.ops.load_library(library)
    return not hasattr(torch.ops.torchvision, "nms")


def declare_operators() -> None:
    """Declare the operators that `import torchvision` asks for; all but `torchvision.ops` then works."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


def declare_missing_operators() -> None:
    """Call this before the first import of torchvision, or of a package that imports it."""
    if operators_are_missing():
        declare_operators()
