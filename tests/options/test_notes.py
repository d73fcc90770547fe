"""What is said of an option file without being a mistake, and what stays one; hints that do not mislead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small.options import REAL_NETWORK, paired_options, photo_options

from lmlt_arch.options import OptionError, option_mistakes, option_notes

ADAM = {"type": "Adam", "lr": 1e-4}


def notes(opt: dict[str, Any]) -> list[str]:
    return str(OptionError(option_notes(opt))).splitlines()


def test_leftovers_of_stage_2_in_a_file_of_stage_1(tmp_path: Path) -> None:
    opt = photo_options(tmp_path)
    assert option_notes(opt) == []
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3}
    opt["train"] |= {"optim_d": ADAM, "net_d_iters": 1, "net_d_init_iters": 0}
    opt |= {"l1_gt_usm": True, "gan_gt_usm": False}
    assert option_mistakes(opt) == []
    places = ("network_d", "train: optim_d", "train: net_d_iters", "train: net_d_init_iters")
    assert notes(opt) == [
        f"{place}: is not read by ESCRealMSEModel" for place in (*places, "l1_gt_usm", "gan_gt_usm")
    ]
    opt["train"]["gan_opt"] = {"type": "GANLoss", "gan_type": "vanilla"}
    (mistake,) = option_mistakes(opt)
    assert mistake.place == ("train", "gan_opt")


def test_leftovers_of_the_degradation(tmp_path: Path) -> None:
    opt, real = paired_options(tmp_path), photo_options(tmp_path / "real")
    opt |= {"gt_usm": True, "queue_size": 180, "resize_prob": [0.2, 0.7, 0.1], "jpeg_range": [30, 95]}
    opt["gt_size"] = opt["datasets"]["train"]["gt_size"]
    opt["datasets"]["train"] |= {"sinc_prob": 0.1, "crop_pad_size": 400}
    assert option_mistakes(opt) == []
    assert notes(opt) == [
        "datasets: train: crop_pad_size: is not read by PairedImageDataset",
        "gt_size: is not read by LMLTModel",
        "queue_size: is not read by LMLTModel",
        "gt_usm: is not read by LMLTModel",
        "resize_prob: is not read by LMLTModel, nor are 1 more keys of the degradation",
        "datasets: train: sinc_prob: is not read by LMLTModel",
    ]
    opt |= {"degradation": {"jpeg_backend": "real"}, "high_order_degradation": True}
    assert len(option_mistakes(opt)) == 2
    assert option_notes(real) == []


@pytest.mark.parametrize("num_gpu", [0, 1])
def test_prefetch_without_a_gpu(tmp_path: Path, num_gpu: int) -> None:
    opt = paired_options(tmp_path) | {"num_gpu": num_gpu}
    opt["datasets"]["train"]["prefetch_mode"] = "cuda"
    assert not torch.cuda.is_available() or num_gpu == 0
    assert option_mistakes(opt) == []
    (note,) = [note for note in notes(opt) if "prefetch" in note]
    assert note.endswith("training loads ahead on the CPU (cpu) instead of cuda")


# network_g, model_type, end of what is said
HINTS: list[tuple[str, str, str]] = [
    ("LMLT", "LMLTModle", "did you mean 'LMLTModel'?"),
    ("LMLT", "SRFFTModel", "for network_g: type: LMLT, write model_type: LMLTModel"),
    ("ESC", "HATModel", "for network_g: type: ESC, write model_type: ESCModel"),
    ("ESCFP", "ESCFPModel", "for network_g: type: ESCFP, write model_type: ESCModel"),
    ("ESCReal", "ESCRealModel", "for network_g: type: ESCReal, write model_type: ESCRealMSEModel"),
    ("ESCRealM", "RealHATModel", "for network_g: type: ESCRealM, write model_type: ESCRealMSEModel"),
    ("ESCLTE", "LIIFModel", "for network_g: type: ESCLTE, write model_type: ArbitraryScaleModel"),
    ("LMLTLTE", "LMLTLTEModel", "for network_g: type: LMLTLTE, write model_type: ArbitraryScaleModel"),
    ("LTML", "escrealganmodel", "did you mean 'ESCRealGANModel'?"),
    ("EDSR", "EDSRModel", "this BasicSR has no class of that name"),
    ("MSRResNet", "SRModle", "did you mean 'SRModel'?"),
    ("HAT", "HATModel", "this BasicSR has no class of that name"),
]


@pytest.mark.parametrize(("network", "model", "hint"), HINTS)
def test_hints_of_unknown_models(tmp_path: Path, network: str, model: str, hint: str) -> None:
    opt = paired_options(tmp_path) | {"model_type": model}
    opt["network_g"]["type"] = network
    (said,) = [m.text for m in option_mistakes(opt) if m.place == ("model_type",)]
    assert said.startswith(f"unknown model {model!r}")
    assert said.endswith(hint)


def test_hint_for_a_network_with_a_discriminator(tmp_path: Path) -> None:
    opt = photo_options(tmp_path) | {"model_type": "ESCRealModel", "network_g": dict(REAL_NETWORK)}
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3}
    (said,) = [m.text for m in option_mistakes(opt) if m.place == ("model_type",)]
    assert said.endswith("write model_type: ESCRealGANModel")


def test_no_hint_is_better_than_a_wrong_or_an_endless_one(tmp_path: Path) -> None:
    opt = paired_options(tmp_path)
    opt["val"]["metrics"]["fid"] = {"type": "calculate_fid"}
    opt["datasets"]["val"]["type"] = "FoldersOfMine"
    opt["network_g"] = {"type": "MyNet"}
    said = [m.text for m in option_mistakes(opt) if m.place[-1] == "type"]
    assert len(said) == 3
    assert "unknown type 'FoldersOfMine'" in said
    assert "unknown type 'MyNet'" in said
    assert not any("did you mean" in text for text in said)
