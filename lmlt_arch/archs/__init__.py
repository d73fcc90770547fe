"""The networks; nothing here depends on BasicSR or on code for training."""

from __future__ import annotations

from lmlt_arch.archs.common.layers import SRNetwork
from lmlt_arch.archs.esc.esc import ESC
from lmlt_arch.archs.esc.esc_fp import ESCFP
from lmlt_arch.archs.esc.esc_real import ESCReal, ESCRealM
from lmlt_arch.archs.lmlt.network import LMLT
from lmlt_arch.archs.lte.decoder import LTENetwork
from lmlt_arch.archs.lte.networks import ESCFPLTE, ESCLTE, LMLTLTE
from lmlt_arch.archs.presets import PRESETS, Preset

__all__ = [
    "ESC",
    "ESCFP",
    "ESCFPLTE",
    "ESCLTE",
    "LMLT",
    "LMLTLTE",
    "PRESETS",
    "ESCReal",
    "ESCRealM",
    "LTENetwork",
    "Preset",
    "SRNetwork",
]
