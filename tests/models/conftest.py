"""Options of tiny networks, as BasicSR's `parse_options` would hand them to a model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

NETWORKS: dict[str, dict[str, Any]] = {
    "LMLT": {"type": "LMLT", "dim": 12, "n_blocks": 1, "ffn_scale": 1.5, "upscaling_factor": 2},
    "ESC": {
        "type": "ESC",
        "dim": 12,
        "pdim": 4,
        "kernel_size": 5,
        "n_blocks": 1,
        "conv_blocks": 2,
        "window_size": 8,
        "num_heads": 2,
        "upscaling_factor": 2,
        "exp_ratio": 1.25,
    },
    "ESCLTE": {
        "type": "ESCLTE",
        "dim": 12,
        "pdim": 4,
        "kernel_size": 5,
        "n_blocks": 1,
        "conv_blocks": 1,
        "window_size": 8,
        "num_heads": 2,
        "hidden_dim": 16,
        "hidden_list": [16],
        "upscaling_factor": 4,
    },
}

TRAIN: dict[str, Any] = {
    "total_iter": 4,
    "warmup_iter": -1,
    "ema_decay": 0.9,
    "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
    "scheduler": {"type": "MultiStepLR", "milestones": [2], "gamma": 0.5},
    "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
}

MakeOptions = Callable[..., dict[str, Any]]


@pytest.fixture
def tiny_networks() -> dict[str, dict[str, Any]]:
    """`network_g` by name."""
    return copy.deepcopy(NETWORKS)


@pytest.fixture
def make_options(tmp_path: Path) -> MakeOptions:
    """Options for `network`, with overrides of its arguments, of `train` and of `path`."""

    def make(
        network: str,
        *,
        is_train: bool = True,
        arguments: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        path: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        network_g = {**NETWORKS[network], **(arguments or {})}
        folders = {"models": tmp_path / "models", "training_states": tmp_path / "training_states"}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        opt = {
            "name": "tiny",
            "scale": network_g["upscaling_factor"],
            "num_gpu": 0,
            "dist": False,
            "rank": 0,
            "world_size": 1,
            "is_train": is_train,
            "network_g": network_g,
            "path": {**{key: str(folder) for key, folder in folders.items()}, **(path or {})},
            "logger": {"print_freq": 1, "save_checkpoint_freq": 2},
        }
        if is_train:
            opt["train"] = {**TRAIN, **(train or {})}
        return opt

    torch.manual_seed(0)
    return make


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Two patches of 16 x 16 and their x2 targets."""
    generator = torch.Generator().manual_seed(1)
    return {
        "lq": torch.rand(2, 3, 16, 16, generator=generator),
        "gt": torch.rand(2, 3, 32, 32, generator=generator),
    }
