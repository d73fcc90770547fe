"""The networks once more, written as plainly as PyTorch allows: the oracle of the tests.

Written from the published descriptions, sharing no line with `lmlt_arch`: NCHW layout, eager mode, scores as
a full matrix, the relative bias gathered element by element. Names and order of the parameters are the
official ones, so a state dict of either loads into the other with `strict=True`.
"""

from __future__ import annotations

from reference.esc import ESC, symmetrized
from reference.esc_fp import ESCFP
from reference.esc_real import ESCReal, ESCRealM
from reference.lmlt import LMLT
from reference.lte import ESCFPLTE, ESCLTE, LMLTLTE
from reference.rescale import rescaled_state
from reference.upsample import DySample, UniUpsample

NETWORKS = {"LMLT": LMLT, "ESC": ESC, "ESCFP": ESCFP, "ESCReal": ESCReal, "ESCRealM": ESCRealM}
ANY_SCALE = {"ESCLTE": ESCLTE, "ESCFPLTE": ESCFPLTE, "LMLTLTE": LMLTLTE}

__all__ = [
    "ANY_SCALE",
    "ESC",
    "ESCFP",
    "LMLT",
    "NETWORKS",
    "DySample",
    "ESCReal",
    "ESCRealM",
    "UniUpsample",
    "rescaled_state",
    "symmetrized",
]
