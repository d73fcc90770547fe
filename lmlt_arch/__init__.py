"""LMLT and ESC super-resolution networks, and the plugin that teaches them to stock BasicSR.

Importing this package is cheap: the networks (and with them torch) load on first use of a name.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmlt_arch.renamed import RenamedModules
from lmlt_arch.version import __version__ as __version__

if TYPE_CHECKING:
    from lmlt_arch.archs import ESC, ESCFP, ESCLTE, LMLT, ESCReal, ESCRealM
    from lmlt_arch.checkpoints.load import load_model
    from lmlt_arch.inference.upscaler import Upscaler

__all__ = ["ESC", "ESCFP", "ESCLTE", "LMLT", "ESCReal", "ESCRealM", "Upscaler", "load_model"]

_HOME = {"Upscaler": "lmlt_arch.inference.upscaler", "load_model": "lmlt_arch.checkpoints.load"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "lmlt_arch.archs")), name)


sys.meta_path.append(RenamedModules())
