"""Metrics of image quality: PSNR and SSIM on the device, and those of pyiqa."""

from __future__ import annotations

from lmlt_arch.metrics.perceptual import (
    MetricError,
    calculate_dists,
    calculate_lpips,
    calculate_pyiqa,
    prepare_metrics,
)
from lmlt_arch.metrics.psnr_ssim import psnr, ssim

__all__ = [
    "MetricError",
    "calculate_dists",
    "calculate_lpips",
    "calculate_pyiqa",
    "prepare_metrics",
    "psnr",
    "ssim",
]
