"""Training for real photographs through BasicSR: ESC-Real's two stages."""

from __future__ import annotations

from realsr.models.gan_model import ESCRealGANModel, RealHATGANModel
from realsr.models.mse_model import ESCRealMSEModel, RealHATMSEModel
from realsr.models.pool import PairPool

__all__ = ["ESCRealGANModel", "ESCRealMSEModel", "PairPool", "RealHATGANModel", "RealHATMSEModel"]
