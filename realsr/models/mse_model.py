"""Stage 1 of ESC-Real: L1 between the output and sharpened ground truth."""

from __future__ import annotations

from torch import Tensor

from lmlt_arch.options import read_gt_usm
from realsr.degradation import sharpen
from realsr.models.real_model import RealWorldModel


class ESCRealMSEModel(RealWorldModel):
    """Stage 1, the counterpart of BasicSR's `RealESRNetModel`.

    Args:
        opt: as of `RealWorldModel`; `gt_usm` (default: true) sharpens ground truth, which is then both the
            target and what gets degraded. Pairs of one's own are never sharpened.
    """

    def sources(self, gt: Tensor) -> tuple[Tensor, Tensor]:
        """Ground truth, sharpened if `gt_usm` is true, for both."""
        gt = sharpen(gt) if read_gt_usm(self.opt) else gt
        return gt, gt


class RealHATMSEModel(ESCRealMSEModel):
    """ESCRealMSEModel under the name that the official option files use."""
