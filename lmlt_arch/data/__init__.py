"""Training data: datasets for BasicSR, their preparation, and MATLAB's bicubic resize.

Importing this package loads neither torch nor BasicSR.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmlt_arch.data.imresize import imresize

if TYPE_CHECKING:
    from lmlt_arch.data.datasets.any_scale import ArbitraryScaleDataset
    from lmlt_arch.data.datasets.downsample import DownsampleImageDataset
    from lmlt_arch.data.datasets.paired_crop import PairedCropDataset

__all__ = ["ArbitraryScaleDataset", "DownsampleImageDataset", "PairedCropDataset", "imresize"]

_HOMES = {
    "ArbitraryScaleDataset": "lmlt_arch.data.datasets.any_scale",
    "DownsampleImageDataset": "lmlt_arch.data.datasets.downsample",
    "PairedCropDataset": "lmlt_arch.data.datasets.paired_crop",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
