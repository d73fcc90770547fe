"""The networks. Nothing here knows of BasicSR or of training."""

from lmlt_arch.archs.esc_arch import ESC
from lmlt_arch.archs.esc_fp_arch import ESCFP
from lmlt_arch.archs.esc_lte_arch import ESCFPLTE, ESCLTE, LMLTLTE
from lmlt_arch.archs.esc_real_arch import ESCReal, ESCRealM
from lmlt_arch.archs.layers import SRNetwork
from lmlt_arch.archs.lmlt_arch import LMLT
from lmlt_arch.archs.lte_arch import LTENetwork
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
