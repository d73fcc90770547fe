"""Datasets for training on real photographs. Importing this package loads neither torch nor BasicSR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realsr.data.hq_image_dataset import HQImageDataset

__all__ = ["HQImageDataset"]


def __getattr__(name: str) -> Any:
    if name == "HQImageDataset":
        from realsr.data.hq_image_dataset import HQImageDataset

        return HQImageDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
