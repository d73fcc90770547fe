"""Values that constructors take and training does not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from basicsr.utils.registry import LOSS_REGISTRY, METRIC_REGISTRY
from helpers.small.options import paired_options, photo_options

from lmlt_arch.options import OptionError, option_mistakes

NAN, INF = float("nan"), float("inf")
COSINE = {"type": "CosineAnnealingRestartLR", "periods": [4], "restart_weights": [1], "eta_min": 1e-7}
VGG = {"type": "PerceptualLoss", "layer_weights": {"conv5_4": 1}}
A_LIST = "must be a list of numbers, such as [1000, 2000]"

CASES: list[tuple[str, Any, str]] = [
    ("train:pixel_opt:loss_weight", [1], "must be a number; got [1]"),
    ("train:pixel_opt:loss_weight", None, "must be a number; got nothing (~)"),
    ("train:pixel_opt:loss_weight", NAN, "must be a number; got nan"),
    ("train:pixel_opt:loss_weight", -INF, "must be a number; got -inf"),
    ("train:pixel_opt:loss_weight", True, "must be a number; got True"),
    ("train:pixel_opt:loss_weight", {"a": 1}, "must be a number; got {'a': 1}"),
    ("train:pixel_opt:reduction", "none", "none leaves no number to train with"),
    ("train:pixel_opt:type", {}, "must be text; got {}"),
    ("train:pixel_opt:type", [], "must be text; got []"),
    ("train:optim_g:type", [1], "must be text; got [1]"),
    ("train:optim_g:betas", [2, 3], "Invalid beta parameter at index 0: 2"),
    ("train:optim_g:betas", 0.9, "must be a list of 2 numbers; got 0.9"),
    ("train:optim_g:betas", [0.9, 0.99, 0.5], "must be a list of 2 numbers"),
    ("train:optim_g:lr", None, "must be a number; got nothing (~)"),
    ("train:optim_g:lr", INF, "must be a number; got inf"),
    ("train:optim_g:weight_decay", "much", "must be a number; got 'much'"),
    ("train:optim_g", {"type": "Muon", "lr": 1e-3}, "cannot be built"),
    ("train:scheduler:milestones", [{"a": 1}], A_LIST),
    ("train:scheduler:milestones", 3, A_LIST),
    ("train:scheduler:milestones", [1.5, 2.5], "must be whole numbers, of iterations; got [1.5, 2.5]"),
    ("train:scheduler:milestones", [NAN], A_LIST),
    ("train:scheduler:gamma", [0.5], "must be a number; got [0.5]"),
    ("train:scheduler", COSINE | {"periods": 6}, f"{A_LIST}; got 6"),
    (
        "train:scheduler",
        COSINE | {"restart_weights": [1, 2]},
        "periods and restart_weights should have the same",
    ),
    ("train:scheduler", COSINE | {"restart_weights": 1}, A_LIST),
    ("train:scheduler", COSINE | {"eta_min": NAN}, "must be a number; got nan"),
    ("train:scheduler", COSINE | {"eta_min": None}, "must be a number; got nothing (~)"),
    ("train:perceptual_opt", VGG | {"vgg_type": "vgg20"}, "unknown type 'vgg20'; did you mean"),
    ("train:perceptual_opt", VGG | {"layer_weights": {"conv9_9": 1}}, "unknown layer 'conv9_9'"),
    ("train:perceptual_opt", VGG | {"layer_weights": {"conv5_4": [1]}}, "must be a number; got [1]"),
    ("train:perceptual_opt", VGG | {"layer_weights": []}, "must hold layers and their weights"),
    ("train:perceptual_opt", VGG | {"criterion": "l3"}, "must be one of l1, l2, fro; got 'l3'"),
    ("val:metrics:psnr:crop_border", "#", "must be a whole number of at least 0; got '#'"),
    ("val:metrics:psnr:crop_border", -1, "must be a whole number of at least 0; got -1"),
    ("val:metrics:psnr:crop_border", 1.5, "must be a whole number of at least 0; got 1.5"),
    ("val:metrics:psnr:test_y_channel", 3, "must be true or false; got 3"),
    ("val:metrics:psnr", {"type": "calculate_psnr"}, "psnr: crop_border: is missing"),
    ("val:metrics:psnr:type", [], "must be text; got []"),
    ("network_g:type", {}, "must be text; got {}"),
    ("datasets:train:type", [], "must be text; got []"),
    ("datasets:train:dataset_enlarge_ratio", "1e2", "YAML read it as text; write 100"),
    ("datasets:train:mean", ["1e-1", 0, 0], "YAML read it as text; write 0.1"),
    ("datasets:train:color", "y", "gives one channel, but network_g: type: LMLT takes 3"),
    ("datasets:val_2", {"name": "pairs", "type": "PairedImageDataset"}, "'pairs' is the name of val too"),
    ("datasets:val:name", "/tmp/elsewhere", "so it must not hold slashes; got '/tmp/elsewhere'"),
    ("datasets:val:name", "Set/5", "datasets: val: name: names the folder of the images that are saved"),
    ("datasets:val:name", "Set\\5", "must not hold slashes"),
    ("val:suffix", "x/y", "val: suffix: must not hold slashes; got 'x/y'"),
    ("val:suffix", "/esc", "val: suffix: must not hold slashes; got '/esc'"),
    ("val:suffix", "../esc", "val: suffix: must "),
    (
        "logger",
        {"print_freq": 1, "save_checkpoint_freq": 1, "use_tb_logger": True, "wandb": {"project": "x"}},
        "wandb",
    ),
    ("logger:keep_checkpoints", 0, "keep_checkpoints: must be at least 1; got 0"),
    ("logger:keep_checkpoints", "5e0", "YAML read it as text; write 5"),
    ("logger:keep_best", "psrn", "logger: keep_best: val: metrics has no 'psrn'; did you mean 'psnr'?"),
    ("logger:keep_best", True, "logger: keep_best: must be text; got True"),
    ("manual_seed", 10**30, "manual_seed: must be at most 4294967295; got 10"),
    ("manual_seed", 2**32, "manual_seed: must be at most 4294967295; got 4294967296"),
    ("num_gpu", 10**12, "num_gpu: must be at most 1024; got 1000000000000"),
    ("scale", 10**6, "scale: must be at most 1024; got 1000000"),
    ("train:total_iter", 2**60, "total_iter: must be at most 9007199254740992; got 1152921504606846976"),
    ("train:total_iter", 1e308, "total_iter: must be at most 9007199254740992; got 1"),
    ("train:grad_clip", 1e308, "grad_clip: must be at most 1000000000000000; got 1e+308"),
    ("val:val_freq", 2**60, "val_freq: must be at most 9007199254740992"),
    ("logger:print_freq", 2**60, "print_freq: must be at most 9007199254740992"),
    ("datasets:train:num_worker_per_gpu", 1e308, "num_worker_per_gpu: must be at most 1024; got 1"),
    ("datasets:train:batch_size_per_gpu", 10**12, "batch_size_per_gpu: must be at most 65536"),
    ("datasets:train:dataset_enlarge_ratio", 1e12, "must be at most 1000000; got 1000000000000"),
    ("datasets:train:gt_size", 10**8, "gt_size: must be at most 65536; got 100000000"),
    ("network_g:dim", 1000000, "dim: must be at most 65536; got 1000000"),
    ("train:pixel_opt:loss_weight", -1, "must be at least 0; got -1"),
    ("train:pixel_opt:loss_weight", "1e300", "loss_weight: must be at most 1000000000000000; got 1"),
    (
        "train:scheduler:milestones",
        [2, "1e300"],
        "milestones[1]: is too large a number: must be at",
    ),
    (
        "train:scheduler",
        COSINE | {"restart_weights": [1e12]},
        "restart_weights: must be at most 1000000",
    ),
    ("network_g", {"type": "LMLT", "dim": 65536, "upscaling_factor": 2}, "parameters, must be at most 8,589"),
    ("train:pixel_opt", {"type": "CharbonnierLoss", "eps": 0}, "eps: must be at least 1e-45; got 0"),
    ("train:gan_opt", {"type": "GANLoss"}, "gan_opt: gan_type: is missing"),
    ("train:perceptual_opt", VGG | {"style_weight": -1}, "style_weight: must be at least 0; got -1"),
    ("train:perceptual_opt", VGG | {"layer_weights": {"conv5_4": -1}}, "must be at least 0; got -1"),
    ("train:optim_g:lr", 1e18, "lr: must be at most 1000000000000000; got 1e+18"),
    ("train:optim_g:fused", "yes", "fused: must be true or false or empty (~); got 'yes'"),
    ("train:optim_g", {"type": "SGD", "lr": 1e-3, "momentum": 1.5}, "momentum: must be at most 1; got 1.5"),
    ("train:scheduler:gamma", -0.5, "gamma: must be at least 0; got -0.5"),
    ("train:scheduler", COSINE | {"eta_min": -1}, "eta_min: must be at least 0; got -1"),
    ("train:scheduler", COSINE | {"restart_weights": [NAN]}, A_LIST),
    ("val:metrics:psnr:crop_border", 10**9, "must be a whole number of at most 4096; got 1000000000"),
    ("val:metrics:psnr:crop_boarder", 4, "psnr: unknown key 'crop_boarder'; did you mean 'crop_border'?"),
    ("val:metrics:psnr:test_y_chanel", True, "unknown key 'test_y_chanel'; did you mean 'test_y_channel'?"),
    ("val:metrics:psnr:test_y_channel", "no", "must be true or false; got 'no'"),
    ("val:metrics:psnr:input_order", "CHW", "input_order: images are given as HWC: remove it"),
    ("val:metrics:psnr:img2", 1, "psnr: unknown key 'img2'"),
    (
        "val:metrics:psnr",
        {"type": "calculate_lpips", "border": 1},
        "unknown key 'border'; did you mean",
    ),
    ("val:metrics:psnr", {"type": "calculate_pyiqa", "crop_border": 1}, "psnr: metric: is missing"),
    ("val:metrics:psnr", {"type": "calculate_pyiqa", "metric": 3}, "metric: must be text; got 3"),
]


def put(opt: dict[str, Any], place: str, value: Any) -> None:
    *sections, key = place.split(":")
    for name in sections:
        opt = opt[name]
    opt[key] = value


@pytest.mark.parametrize(("place", "value", "message"), CASES)
def test_values(tmp_path: Path, place: str, value: Any, message: str) -> None:
    opt = paired_options(tmp_path)
    put(opt, place, copy.deepcopy(value))
    said = str(OptionError(option_mistakes(opt))).splitlines()
    assert [line for line in said if message in line], said
    assert not [line for line in said if "0x" in line or "Traceback" in line]


@pytest.mark.parametrize(
    ("place", "value"), [("val:suffix", ""), ("val:suffix", "v1.2 x"), ("val:suffix", None)]
)
def test_good_values(tmp_path: Path, place: str, value: Any) -> None:
    opt = paired_options(tmp_path)
    put(opt, place, value)
    assert option_mistakes(opt) == []


def test_keeping_the_best_needs_validations(tmp_path: Path) -> None:
    def mistakes(**changes: Any) -> list[str]:
        opt = paired_options(tmp_path) | changes
        opt["logger"] |= {"keep_best": "psnr", "keep_checkpoints": 1}
        return str(OptionError(option_mistakes(opt))).splitlines()

    assert mistakes() == []
    opt = paired_options(tmp_path)
    lacking = "logger: keep_best: needs val: metrics, and there are none: add them, or remove it"
    assert mistakes(val=None) == mistakes(val=opt["val"] | {"metrics": None}) == [lacking]
    said = "logger: keep_best: needs a dataset to validate on: add datasets: val, or remove it"
    assert mistakes(datasets={"train": opt["datasets"]["train"]}) == [said]


def test_a_name_that_is_only_logged(tmp_path: Path) -> None:
    opt = paired_options(tmp_path)
    opt["datasets"]["train"]["name"] = "DF2K/sub"
    assert option_mistakes(opt) == []


def test_a_misspelled_key_is_one_mistake(tmp_path: Path) -> None:
    opt = paired_options(tmp_path)
    opt["val"]["metrics"] = {"m": {"type": "calculate_psnr", "crop_boarder": 4}}
    assert [m.text for m in option_mistakes(opt)] == [
        "unknown key 'crop_boarder'; did you mean 'crop_border'?"
    ]


def test_a_measure_or_loss_of_ones_own_is_judged_by_its_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(
        img: Any,
        img2: Any,
        side: int,
        kind: Literal["a", "b"] = "a",
        more: float | None = None,
        plain: Any = 0,
    ) -> float:
        return float(side)

    def open_measure(img: Any, img2: Any, border: int = 0, **rest: Any) -> float:
        return float(rest.get("bordr", 0))

    class Loss(torch.nn.L1Loss):
        def __init__(self, power: int, *, soft: bool) -> None:
            super().__init__()

    monkeypatch.setitem(METRIC_REGISTRY._obj_map, "measure", measure)
    monkeypatch.setitem(METRIC_REGISTRY._obj_map, "open_measure", open_measure)
    monkeypatch.setitem(LOSS_REGISTRY._obj_map, "Loss", Loss)
    opt = paired_options(tmp_path)

    def said(metric: dict[str, Any], loss: dict[str, Any]) -> list[str]:
        opt["val"]["metrics"] = {"m": metric}
        opt["train"]["pixel_opt"] = loss
        return [f"{m.place[-1]}: {m.text}" for m in option_mistakes(opt)]

    fine = {"type": "Loss", "power": 2, "soft": True}
    assert said({"type": "measure", "side": 1, "more": None, "kind": "b"}, fine) == []
    assert said({"type": "open_measure", "bordr": 1, "better": "lower"}, fine) == []
    assert said({"type": "measure", "side": 1.5, "kind": "c", "more": "x", "better": "lower"}, fine) == [
        "better: measure takes no 'better', with which BasicSR calls it: give it **kwargs",
        "side: must be a whole number; got 1.5",
        "kind: must be one of a, b; got 'c'",
        "more: must be a number or empty (~); got 'x'",
    ]
    assert said({"type": "measure", "sied": 1}, {"type": "Loss", "power": True}) == [
        "sied: unknown key 'sied'; did you mean 'side'?",
        "power: must be a whole number; got True",
        "soft: is missing",
    ]


def test_training_data_that_are_no_pairs(tmp_path: Path) -> None:
    opt = photo_options(tmp_path) | {"high_order_degradation": False}
    (found,) = option_mistakes(opt)
    assert found.place == ("datasets", "train", "type")
    assert found.text == (
        "HQImageDataset gives no LQ images, and training needs pairs: take PairedImageDataset, or remove "
        "high_order_degradation: false"
    )
    assert option_mistakes(opt | {"high_order_degradation": True}) == []
    paired = paired_options(tmp_path)
    pairs = paired["datasets"]["train"]
    assert option_mistakes(opt | {"scale": 4, "datasets": {"train": pairs}}) == []
    for model in ("LMLTModel", "SRModel"):
        paired["model_type"] = model
        for kind, lacks in (("SingleImageDataset", "ground truth"), ("HQImageDataset", "LQ")):
            paired["datasets"]["train"] = pairs | {"type": kind}
            assert f"{kind} gives no {lacks} images" in str(OptionError(option_mistakes(paired)))


def test_what_a_stock_degradation_cuts_out(tmp_path: Path) -> None:
    opt = photo_options(tmp_path)
    data = opt["datasets"]["train"]
    data |= {"type": "RealESRGANDataset", "io_backend": {"type": "disk"}, "meta_info": "list.txt"}
    data |= {"use_hflip": True, "use_rot": False, "crop_pad_size": 600}
    opt["gt_size"] = 400
    assert option_mistakes(opt) == []
    opt["gt_size"] = 404
    (found,) = option_mistakes(opt)
    assert (found.place, found.text) == (("gt_size",), "404 is more than what is cut out of the photos, 400")
    del data["meta_info"]
    assert ("datasets", "train", "meta_info") in [m.place for m in option_mistakes(opt)]
    stock = opt | {"model_type": "RealESRNetModel", "gt_size": 404}
    stock["logger"] |= {"use_tb_logger": False}
    data["meta_info"] = "list.txt"
    assert [m.place for m in option_mistakes(stock)] == [("gt_size",)]
    del data["sinc_prob"]
    assert ("datasets", "train", "sinc_prob") in [m.place for m in option_mistakes(stock)]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("resize_range", [0.1, 1e6], "resize_range: must be at most 100; got [0.1, 1000000.0]"),
        ("poisson_scale_range2", [0, 1e300], "poisson_scale_range2: must be at most 10000; got"),
        (
            "datasets:train:blur_kernel_size",
            10**9 + 1,
            "blur_kernel_size: must be at most 1025; got",
        ),
        ("datasets:train:blur_sigma", [0.2, 1e9], "blur_sigma: must be at most 10000; got"),
        ("queue_size", 10**12, "queue_size: must be at most 1048576; got 1000000000000"),
    ],
)
def test_bounds_of_the_degradation(tmp_path: Path, place: str, value: Any, message: str) -> None:
    opt = photo_options(tmp_path)
    put(opt, place, value)
    said = str(OptionError(option_mistakes(opt))).splitlines()
    assert [line for line in said if message in line], said


def test_what_stock_code_reads_without_a_default(tmp_path: Path) -> None:
    opt = paired_options(tmp_path)
    for part, key in ((opt["logger"], "use_tb_logger"), (opt["datasets"]["train"], "use_rot")):
        del part[key]
    assert option_mistakes(opt) == []
    stock = [m.place for m in option_mistakes(opt | {"model_type": "SRModel"})]
    assert stock == [("logger", "use_tb_logger"), ("datasets", "train", "use_rot")]


def test_what_stock_code_reads_to_name_images(tmp_path: Path) -> None:
    opt = paired_options(tmp_path)
    opt["datasets"] = {"test": opt["datasets"]["val"]}
    del opt["train"], opt["logger"], opt["val"]["val_freq"]
    for model, missing in (("LMLTModel", []), ("SRModel", [("val", "suffix")])):
        opt["model_type"] = model
        opt["val"] = {"save_img": True}
        assert [m.place for m in option_mistakes(opt)] == missing
        opt["val"] |= {"suffix": None}
        assert option_mistakes(opt) == []
        opt["val"] = {"save_img": False}
        assert option_mistakes(opt) == []


def test_what_stock_code_reads_to_sharpen(tmp_path: Path) -> None:
    opt = photo_options(tmp_path) | {"model_type": "RealESRNetModel"}
    opt["logger"] |= {"use_tb_logger": False}
    opt.pop("gt_usm", None)
    assert [m.place for m in option_mistakes(opt)] == [("gt_usm",)]
    assert option_mistakes(opt | {"gt_usm": True}) == []
    assert option_mistakes(opt | {"model_type": "ESCRealMSEModel"}) == []
