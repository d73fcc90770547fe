"""Patches for `import basicsr` on current libraries, and for loading older checkpoints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import total_ordering, wraps
from importlib.util import find_spec
from pathlib import Path
from re import findall
from types import ModuleType
from typing import Any

import numpy as np
import torch

from lmlt_arch.hook.patching import Names, patch_after, patch_during, patch_libraries
from lmlt_arch.torchvision_library import declare_operators, operators_are_missing


@patch_libraries("basicsr", needed=lambda names: operators_are_missing())
def torchvision_library() -> None:
    """Torchvision's wheel from PyPI beside a CPU torch cannot load its `_C` library.

    Its import then dies with `operator torchvision::nms does not exist`: the missing operators get declared,
    so that all but `torchvision.ops` works.
    """
    declare_operators()


def _imports_gone(word: str, module: str, names: Names) -> bool:
    """Whether the module about to run still imports `module`, which no longer exists."""
    source = Path(names.get("__file__") or "")
    return source.is_file() and word in source.read_text(encoding="utf-8") and not _found(module)


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


@contextmanager
def _stand_in(module: str, **contents: Any) -> Iterator[None]:
    """Provide `module` in this context only: other packages probe for it and must not find a part of it."""
    sys.modules[module] = ModuleType(module)
    vars(sys.modules[module]).update(contents)
    try:
        yield
    finally:
        sys.modules.pop(module, None)


@patch_during(
    "basicsr.data.degradations",
    needed=lambda names: _imports_gone(
        "functional_tensor", "torchvision.transforms.functional_tensor", names
    ),
)
@contextmanager
def functional_tensor() -> Iterator[None]:
    """Torchvision 0.17 dropped `transforms.functional_tensor` (BasicSR #533, #663, #738; fixed on master)."""
    from torchvision.transforms.functional import rgb_to_grayscale

    with _stand_in("torchvision.transforms.functional_tensor", rgb_to_grayscale=rgb_to_grayscale):
        yield


@total_ordering
class LooseVersion:
    """The part of `distutils.version.LooseVersion` that BasicSR uses: the order of dotted numbers."""

    def __init__(self, text: str) -> None:
        self._numbers = [int(number) for number in findall(r"\d+", text.partition("+")[0])]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LooseVersion) and self._numbers == other._numbers

    def __lt__(self, other: LooseVersion) -> bool:
        return self._numbers < other._numbers


@patch_during(
    "basicsr.archs.arch_util", needed=lambda names: _imports_gone("distutils", "distutils.version", names)
)
@contextmanager
def distutils_version() -> Iterator[None]:
    """Python 3.12 dropped distutils; it is there only where setuptools is."""
    with _stand_in("distutils.version", LooseVersion=LooseVersion):
        yield


@contextmanager
def _scipy_filters() -> Iterator[None]:
    from scipy import ndimage

    with _stand_in("scipy.ndimage.filters", **{name: getattr(ndimage, name) for name in ndimage.__all__}):
        yield


@patch_during(
    "basicsr.metrics.niqe",
    needed=lambda names: _imports_gone("ndimage.filters", "scipy.ndimage.filters", names),
)
@contextmanager
def scipy_filters_in_niqe() -> Iterator[None]:
    """SciPy 2 drops `scipy.ndimage.filters`; the functions stay in `scipy.ndimage`."""
    with _scipy_filters():
        yield


@patch_after(
    "basicsr.data.data_util",
    changes=("duf_downsample",),
    needed=lambda names: not _found("scipy.ndimage.filters"),
)
def scipy_filters_in_duf_downsample(names: Names) -> None:
    """SciPy 2 drops `scipy.ndimage.filters`, which this function imports when it is called."""
    stock = names["duf_downsample"]

    @wraps(stock)
    def duf_downsample(*args: Any, **kwargs: Any) -> Any:
        with _scipy_filters():
            return stock(*args, **kwargs)

    names["duf_downsample"] = duf_downsample


def _plain_dict(factory: object = None) -> dict[Any, Any]:
    return {}


@patch_libraries("basicsr")
def plain_values_in_checkpoints() -> None:
    """`torch.load` with weights_only, the default since torch 2.6, refuses plain values in older checkpoints.

    Numpy numbers, `Namespace`, `Path` and `defaultdict` only hold data: they are declared safe, and
    weights_only stays on. A `defaultdict` comes back as a dict, the only kind that can be filled there.
    """
    numbers = [np.dtype(code) for code in "?bBhHiIlLqQefdgFDG"]
    scalar: Any = np.float64(0).__reduce__()[0]
    path: Any = type(Path())
    safe: list[Any] = [np.dtype, *{type(number) for number in numbers}]
    safe += [argparse.Namespace, (_plain_dict, "collections.defaultdict"), dict, list, set, int, float]
    # Numpy 1 and Python 3.13 have names of their own for these modules.
    safe += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    safe += [(path, f"{home}.{path.__name__}") for home in ("pathlib", "pathlib._local")]
    torch.serialization.add_safe_globals(safe)
