"""Official options for ESC-Real's two stages, for networks and images small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers.official_degradation import official_options
from torch import Generator, Tensor, nn

NETWORK = {
    "type": "ESCReal",
    "dim": 8,
    "pdim": 4,
    "kernel_size": 5,
    "n_blocks": 1,
    "conv_blocks": 1,
    "window_size": 8,
    "num_heads": 2,
    "upscaling_factor": 4,
}
DISCRIMINATOR = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4, "skip_connection": True}
GT_SIZE = 32
# The smallest images that the official degradation takes, rounded up.
IMAGE_SIZE = 80
STAGES = ("ESCRealMSEModel", "ESCRealGANModel")


def random_vgg(path: Path) -> Path:
    """A file such as torchvision's, of random numbers, without the unused classifier."""
    generator = torch.Generator().manual_seed(0)
    state, number, before = {}, 0, 3
    for width, layers in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(layers):
            weight = torch.randn(width, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
            state |= {f"features.{number}.weight": weight, f"features.{number}.bias": torch.zeros(width)}
            number, before = number + 2, width  # a ReLU comes after each
        number += 1  # and a pooling after them all
    torch.save(state, path)
    return path


def stage_options(
    model_type: str,
    folder: Path,
    *,
    vgg: Path | None = None,
    is_train: bool = True,
    train: dict[str, Any] | None = None,
    path: dict[str, Any] | None = None,
    **top: Any,
) -> dict[str, Any]:
    """What `parse_options` would hand to a model; without VGG's file, stage 2 goes without that loss."""
    opt: dict[str, Any] = {
        **official_options(),
        "name": "tiny",
        "model_type": model_type,
        "num_gpu": 0,
        "manual_seed": 3,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "is_train": is_train,
        "gt_size": GT_SIZE,
        "queue_size": 4,
        "network_g": dict(NETWORK),
        "path": {"models": str(folder / "models"), "training_states": str(folder / "training_states")},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2},
        "val": {"val_freq": 2, "save_img": False},
    }
    for sub in ("models", "training_states"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    opt["datasets"]["train"] |= {"batch_size_per_gpu": 2}
    opt["path"] |= {"vgg": str(vgg)} if vgg else {}
    opt["path"] |= path or {}
    opt["train"] = {
        "total_iter": 8,
        "warmup_iter": -1,
        "ema_decay": 0.5,
        "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
        "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
        "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
    }
    if "GAN" in model_type:
        del opt["gt_usm"]
        opt |= {"l1_gt_usm": True, "percep_gt_usm": True, "gan_gt_usm": False}
        opt["network_d"] = dict(DISCRIMINATOR)
        opt["train"] |= {
            "optim_d": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "gan_opt": {
                "type": "GANLoss",
                "gan_type": "vanilla",
                "real_label_val": 1.0,
                "fake_label_val": 0.0,
                "loss_weight": 0.1,
            },
            "net_d_iters": 1,
            "net_d_init_iters": 0,
        }
        if vgg:
            opt["train"]["perceptual_opt"] = {
                "type": "PerceptualLoss",
                "layer_weights": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1},
                "vgg_type": "vgg19",
                "use_input_norm": True,
                "perceptual_weight": 1.0,
                "style_weight": 0,
                "range_norm": False,
                "criterion": "l1",
            }
    opt["train"] |= train or {}
    return opt | top


def batch(seed: int, count: int = 2, size: int = IMAGE_SIZE) -> dict[str, Any]:
    """A batch of a dataset: smooth images and their names."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return {
        "gt": (fine * 255).round() / 255,
        "gt_path": [f"/photos/{seed}_{index}.png" for index in range(count)],
    }


def pair(seed: int, count: int = 2) -> dict[str, Any]:
    """Aligned patches as PairedImageDataset gives them."""
    generator = Generator().manual_seed(seed)
    return {
        "lq": torch.rand(count, 3, GT_SIZE // 4, GT_SIZE // 4, generator=generator),
        "gt": torch.rand(count, 3, GT_SIZE, GT_SIZE, generator=generator),
        "lq_path": [f"lq{index}.png" for index in range(count)],
        "gt_path": [f"gt{index}.png" for index in range(count)],
    }


def step(model: Any, iteration: int, data: dict[str, Any]) -> None:
    model.update_learning_rate(iteration)
    model.feed_data(data)
    model.optimize_parameters(iteration)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def smallest_change(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    return min((after[name] - value).abs().max().item() for name, value in before.items())
