"""Training data: preparation, MATLAB's bicubic resize, and datasets for BasicSR.

Importing this package loads neither torch nor BasicSR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmlt_arch.data.imresize import imresize

if TYPE_CHECKING:
    from lmlt_arch.data.downsample_image_dataset import DownsampleImageDataset

__all__ = ["DownsampleImageDataset", "imresize"]


def __getattr__(name: str) -> Any:
    if name == "DownsampleImageDataset":
        from lmlt_arch.data.downsample_image_dataset import DownsampleImageDataset

        return DownsampleImageDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
