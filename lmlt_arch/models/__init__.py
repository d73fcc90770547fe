"""Training and testing of the networks through BasicSR."""

from __future__ import annotations

from lmlt_arch.models.any_scale_model import ArbitraryScaleModel
from lmlt_arch.models.esc_model import ESCModel, ESRModel
from lmlt_arch.models.lmlt_model import LMLTModel

__all__ = ["ArbitraryScaleModel", "ESCModel", "ESRModel", "LMLTModel"]
