"""Training losses that BasicSR lacks."""

from lmlt_arch.losses.fft_loss import FFTLoss

__all__ = ["FFTLoss"]
