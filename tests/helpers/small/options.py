"""Small datasets and option files in which nothing is wrong, to be broken by tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from helpers.official_degradation import official_options
from helpers.small.stages import NETWORK as REAL_NETWORK
from PIL import Image

TRAIN: dict[str, Any] = {
    "total_iter": 4,
    "warmup_iter": -1,
    "ema_decay": 0.9,
    "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
    "scheduler": {"type": "MultiStepLR", "milestones": [2, 3], "gamma": 0.5},
    "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
}
LOADER = {"num_worker_per_gpu": 0, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 1}


def save_image(path: Path, width: int, height: int, seed: int = 0) -> None:
    """Noise, whose compressed files are large enough to be cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def paired_options(tmp_path: Path) -> dict[str, Any]:
    """Options of a training of LMLT x2 on four pairs, validated on two of them."""
    for number in range(4):
        save_image(tmp_path / f"gt/{number}.png", 48, 40, number)
        save_image(tmp_path / f"lq/{number}.png", 24, 20, number)
    data = {
        "name": "pairs",
        "type": "PairedImageDataset",
        "dataroot_gt": str(tmp_path / "gt"),
        "dataroot_lq": str(tmp_path / "lq"),
        "io_backend": {"type": "disk"},
    }
    flips = {"gt_size": 32, "use_hflip": True, "use_rot": True}
    return {
        "name": "tiny",
        "model_type": "LMLTModel",
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 1,
        "datasets": {"train": {**data, **flips, **LOADER}, "val": dict(data)},
        "network_g": {"type": "LMLT", "dim": 12, "n_blocks": 1, "ffn_scale": 1.5, "upscaling_factor": 2},
        "path": {"pretrain_network_g": None, "strict_load_g": True},
        "train": copy.deepcopy(TRAIN),
        "val": {
            "val_freq": 2,
            "save_img": False,
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
    }


def photo_options(tmp_path: Path) -> dict[str, Any]:
    """Options of stage 1 on photographs of one's own."""
    for number in range(3):
        save_image(tmp_path / f"photos/{number}.png", 120, 110, number)
    opt = official_options()
    data = {
        "name": "photos",
        "type": "HQImageDataset",
        "dataroot_gt": str(tmp_path / "photos"),
        "crop_pad_size": 96,
        "use_hflip": True,
        "use_rot": False,
    }
    opt["datasets"] = {"train": {**opt["datasets"]["train"], **data, **LOADER}}
    return opt | {
        "name": "tiny",
        "model_type": "ESCRealMSEModel",
        "scale": 4,
        "num_gpu": 0,
        "manual_seed": 1,
        "gt_size": 64,
        "queue_size": 4,
        "network_g": dict(REAL_NETWORK),
        "path": {},
        "train": copy.deepcopy(TRAIN),
        "val": {"val_freq": 2, "save_img": False},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2},
    }
