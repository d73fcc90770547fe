"""Training losses that BasicSR lacks."""

from __future__ import annotations

from lmlt_arch.losses.fft_loss import FFTLoss

__all__ = ["FFTLoss"]
