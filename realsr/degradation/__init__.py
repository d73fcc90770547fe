"""Second-order degradation: LQ images of real-world training, as BasicSR's Real-ESRGAN makes them."""

from __future__ import annotations

from lmlt_arch.options import OptionError
from realsr.degradation.draws import Draws
from realsr.degradation.filters import sharpen
from realsr.degradation.log import rows
from realsr.degradation.options import (
    DegradationOptions,
    read_gt_usm,
    read_options,
    read_scale,
)
from realsr.degradation.process import Degradation, Stage

__all__ = [
    "Degradation",
    "DegradationOptions",
    "Draws",
    "OptionError",
    "Stage",
    "read_gt_usm",
    "read_options",
    "read_scale",
    "rows",
    "sharpen",
]
