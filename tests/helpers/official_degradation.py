"""The degradation's part of the official option files for ESC-Real, as BasicSR's keys."""

from __future__ import annotations

from typing import Any

KINDS = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]


def official_options() -> dict[str, Any]:
    kernels = {
        "blur_kernel_size": 21,
        "kernel_list": KINDS,
        "kernel_prob": [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
        "sinc_prob": 0.1,
        "blur_sigma": [0.2, 3],
        "betag_range": [0.5, 4],
        "betap_range": [1, 2],
    }
    second = {f"{key}2": value for key, value in kernels.items()} | {"blur_sigma2": [0.2, 1.5]}
    return {
        "scale": 4,
        "gt_usm": True,
        "resize_prob": [0.2, 0.7, 0.1],
        "resize_range": [0.15, 1.5],
        "gaussian_noise_prob": 0.5,
        "noise_range": [1, 30],
        "poisson_scale_range": [0.05, 3],
        "gray_noise_prob": 0.4,
        "jpeg_range": [30, 95],
        "second_blur_prob": 0.8,
        "resize_prob2": [0.3, 0.4, 0.3],
        "resize_range2": [0.3, 1.2],
        "gaussian_noise_prob2": 0.5,
        "noise_range2": [1, 25],
        "poisson_scale_range2": [0.05, 2.5],
        "gray_noise_prob2": 0.4,
        "jpeg_range2": [30, 95],
        "gt_size": 256,
        "queue_size": 180,
        "datasets": {"train": {**kernels, **second, "final_sinc_prob": 0.8}},
    }
