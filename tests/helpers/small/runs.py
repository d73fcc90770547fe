"""Published option files made small, for BasicSR's own pipelines in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[str, dict[str, Any]], Path]
"""Runs a pipeline, `train` or `test`, below a folder of its own, and gives that."""

SIDE, CROP, NAMES = 96, 80, ("a", "b")

SMALL: dict[str, Any] = {
    "dim": 8,
    "n_blocks": 1,
    "pdim": 4,
    "kernel_size": 5,
    "conv_blocks": 1,
    "window_size": 8,
    "num_heads": 2,
    "mid_dim": 8,
    "hidden_dim": 8,
    "hidden_list": [8],
    "num_feat": 2,
}


def small(opt: dict[str, Any], data: Path) -> dict[str, Any]:
    """The options for tiny networks, the images below `data`, and one iteration."""
    for name in ("network_g", "network_d"):
        network = opt.get(name) or {}
        network.update({key: value for key, value in SMALL.items() if key in network})
        if network.get("type") == "LMLT":
            network["dim"] = 12
    opt["num_gpu"] = 0
    opt.update({key: value for key, value in (("gt_size", 32), ("queue_size", 4)) if key in opt})
    for section in opt["datasets"].values():
        lmdb = section["io_backend"]["type"] == "lmdb"
        folders = {
            "dataroot_gt": "HR",
            "dataroot_lq": f"LR{opt['scale'] if lmdb or 'dataroot_gt' in section else ''}",
        }
        for key in folders.keys() & section.keys():
            section[key] = str(data / (folders[key] + (".lmdb" if lmdb else "")))
        sizes = {"gt_size": 16 * opt["scale"], "crop_pad_size": CROP, "lq_size": 8}
        loading = {"num_worker_per_gpu": 0, "batch_size_per_gpu": 2}
        section.update({key: value for key, value in (sizes | loading).items() if key in section})
        section.pop("persistent_workers", None)
    for key in ("pretrain_network_g", "param_key_g"):
        opt["path"].pop(key, None)
    train = opt.get("train", {})
    if train:
        train["total_iter"] = 1
        train.update({"total_batch": 2} if "total_batch" in train else {})
        train["scheduler"].update({"periods": [1]} if "periods" in train["scheduler"] else {})
        train.update({"queries": 16} if "queries" in train else {})
        opt["logger"].update(print_freq=1, save_checkpoint_freq=1)
        if "perceptual_opt" in train:
            train["perceptual_opt"]["layer_weights"] = {"conv1_2": 1.0}
    if "val" in opt:
        opt["val"].update({"val_freq": 1} if train else {})
    return opt
