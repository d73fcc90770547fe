"""Second-order degradation: LQ images of real-world training, as BasicSR's Real-ESRGAN makes them.

Importing this package does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmlt_arch.renamed import moved

if TYPE_CHECKING:
    from realsr.degradation.filters import sharpen
    from realsr.degradation.log import rows
    from realsr.degradation.options import DegradationOptions
    from realsr.degradation.process import Degradation, Stage
    from realsr.degradation.sampling import DegradationSample

__all__ = [
    "Degradation",
    "DegradationOptions",
    "DegradationSample",
    "Stage",
    "rows",
    "sharpen",
]

_MODULES = {
    "Degradation": "process",
    "DegradationOptions": "options",
    "DegradationSample": "sampling",
    "Stage": "process",
    "rows": "log",
    "sharpen": "filters",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        return moved(__name__, name)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
