"""Running trained networks: on arrays (`Upscaler`) and on files (`upscale_files`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmlt_arch.inference.files import FileProgress, Result, Settings, resize_by, resize_to, upscale_files
    from lmlt_arch.inference.images.encoding import Encoding
    from lmlt_arch.inference.upscaler import Upscaler

__all__ = [
    "Encoding",
    "FileProgress",
    "Result",
    "Settings",
    "Upscaler",
    "resize_by",
    "resize_to",
    "upscale_files",
]

_HOME = {"Encoding": "images.encoding", "Upscaler": "upscaler"}


def __getattr__(name: str) -> Any:
    # Not imported before they are used: they need torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'files')}"), name)
