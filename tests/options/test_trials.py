"""Losses and metrics that fail when they are run: each is run once on noise, before anything starts."""

from __future__ import annotations

import argparse
import random
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from helpers.small.options import paired_options

from lmlt_arch.hook.patches import options
from lmlt_arch.models import LMLTModel
from lmlt_arch.options import OptionError, option_mistakes
from lmlt_arch.options.checks.run import checked_options

NIQE = {"type": "calculate_niqe", "crop_border": 4}
TRIED = "tried on noise"


@pytest.fixture
def opt(tmp_path: Path) -> dict[str, Any]:
    return paired_options(tmp_path)


def texts(opt: dict[str, Any]) -> list[str]:
    return str(OptionError(option_mistakes(opt))).splitlines()


LOSSES: list[tuple[str, dict[str, Any], str]] = [
    (
        "pixel_opt",
        {"type": "GANLoss", "gan_type": "vanilla"},
        "fails when tried on noise: RuntimeError: Boolean",
    ),
    ("gan_opt", {"type": "L1Loss"}, "fails when tried on noise: AttributeError: 'bool' object"),
    ("perceptual_opt", {"type": "L1Loss"}, "gives no pair of the perceptual and the style loss"),
    ("fft_opt", {"type": "Raises"}, "fails when tried on noise: KeyError: 'of its own'"),
    ("pixel_opt", {"type": "Undefined"}, "gives nan when tried on noise"),
    ("pixel_opt", {"type": "Steep"}, "has a gradient that is not finite when tried on noise"),
    ("pixel_opt", {"type": "Map"}, "gives a tensor of shape (2, 3, 32, 32) instead of one number"),
    ("pixel_opt", {"type": "Plain"}, "gives 0.5 instead of a tensor when tried on noise"),
    ("pixel_opt", {"type": "Constant"}, "does not require grad"),
    ("pixel_opt", {"type": "Unbuilt"}, "cannot be built: no weights"),
]


class Loss(torch.nn.Module):
    def forward(self, output: Any, gt: Any) -> Any:
        distance = (output - gt).abs()
        match type(self).__name__:
            case "Raises":
                raise KeyError("of its own")
            case "Undefined":
                return (distance - 1).log().mean()
            case "Steep":
                return (output - output).sqrt().sum()
            case "Map":
                return distance
            case "Plain":
                return 0.5
            case "Constant":
                return distance.mean().detach()
            case "Large" if min(gt.shape[-2:]) < 160:
                raise ValueError("at least 160 pixels")
            case "Fetching":
                try:
                    urllib.request.urlopen("https://weights.invalid/x")
                except Exception as error:
                    raise RuntimeError("no weights") from error
            case "OnGPU":
                raise AssertionError("Torch not compiled with CUDA enabled")
            case "Masked":
                raise TypeError("forward() missing 1 required positional argument: 'mask'")
        return distance.mean()


def refuse(self: Any) -> None:
    raise OSError("no weights")


@pytest.fixture(autouse=True)
def own_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "Raises",
        "Undefined",
        "Steep",
        "Map",
        "Plain",
        "Constant",
        "Large",
        "Fetching",
        "OnGPU",
        "Masked",
    )
    for name in (*names, "Masked"):
        monkeypatch.setitem(LOSS_REGISTRY._obj_map, name, type(name, (Loss,), {}))
    monkeypatch.setitem(LOSS_REGISTRY._obj_map, "Unbuilt", type("Unbuilt", (Loss,), {"__init__": refuse}))


@pytest.mark.parametrize(("section", "loss", "message"), LOSSES)
def test_losses(opt: dict[str, Any], section: str, loss: dict[str, Any], message: str) -> None:
    opt["train"][section] = loss
    (said,) = [line for line in texts(opt) if line.startswith(f"train: {section}: ")][:1]
    assert message in said
    with pytest.raises(OptionError, match="train: "):
        checked_options(opt | {"is_train": True})


@pytest.mark.parametrize("name", ["Fetching", "OnGPU"])
def test_what_cannot_be_known_here_is_no_mistake(opt: dict[str, Any], name: str) -> None:
    opt["train"]["pixel_opt"] = {"type": name}
    assert texts(opt) == []
    opt["model_type"] = "SRModel"
    assert texts(opt) == []


def test_crops_of_the_size_of_training(opt: dict[str, Any]) -> None:
    opt["train"]["pixel_opt"] = {"type": "Large"}
    assert "at least 160 pixels" in texts(opt)[0]
    for side in (160, 320):
        opt["datasets"]["train"]["gt_size"] = side
        assert texts(opt) == []


def test_models_that_may_call_losses_otherwise(opt: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opt["train"]["pixel_opt"] = {"type": "Masked"}
    opt["logger"]["use_tb_logger"] = False
    own = {"optimize_parameters": lambda self, current_iter: None}
    for name, base, methods, tried in (
        ("Plain", SRModel, {}, True),
        ("Own", SRModel, own, False),
        ("Derived", LMLTModel, {}, False),
    ):
        monkeypatch.setitem(MODEL_REGISTRY._obj_map, name, type(name, (base,), methods))
        opt["model_type"] = name
        assert any(TRIED in line for line in texts(opt)) is tried


METRICS: list[tuple[dict[str, Any], str | None]] = [
    (NIQE, None),
    (NIQE | {"crop_border": 0}, None),
    (NIQE | {"crop_border": 500}, None),
    (NIQE | {"convert_to": "luma"}, "fails when tried on noise: AssertionError: Input image must be"),
    ({"type": "calculate_psnr", "crop_border": 4, "input_order": "WHC"}, "ValueError: Wrong input_order WHC"),
    ({"type": "calculate_psnr_pt", "crop_border": 4}, "IndexError: too many indices"),
    ({"type": "calculate_lpips", "crop_border": 4, "better": "lower"}, None),
    ({"type": "own", "factor": 2.0}, None),
    ({"type": "own", "factor": 0}, "fails when tried on noise: ZeroDivisionError: "),
    ({"type": "own", "factor": None}, "fails when tried on noise: TypeError: unsupported operand"),
    ({"type": "own", "factor": 1, "side": 500}, None),
    ({"type": "own", "factor": 1, "side": 5000}, "fails when tried on noise: ValueError: too small"),
    ({"type": "own", "factor": "object"}, "gives <object object> instead of a number when tried on noise"),
    ({"type": "own", "factor": "no"}, "gives 'no' instead of a number when tried on noise"),
]


@pytest.mark.parametrize("model", ["LMLTModel", "SRModel"])
@pytest.mark.parametrize(("metric", "message"), METRICS)
def test_measures(
    opt: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    metric: dict[str, Any],
    message: str | None,
    model: str,
) -> None:
    def own(img: Any, img2: Any, factor: Any, side: int = 0) -> Any:
        if min(img.shape[:2]) < side:
            raise ValueError("too small")
        if factor == "object":
            return object()
        return factor if isinstance(factor, str) else float("nan") / factor  # undefined on noise

    monkeypatch.setitem(METRIC_REGISTRY._obj_map, "own", own)
    opt |= {"model_type": model}
    opt["val"]["metrics"] = {"m": metric}
    said = texts(opt)
    assert len(said) == (0 if message is None else 1)
    assert message is None or (said[0].startswith("val: metrics: m: ") and message in said[0])


def test_sets_without_ground_truth(opt: dict[str, Any]) -> None:
    del opt["train"]
    data = {"name": "x", "type": "SingleImageDataset", "dataroot_lq": "x", "io_backend": {"type": "disk"}}
    opt["datasets"] = {"test": data}
    assert texts(opt) == []
    opt["model_type"] = "SRModel"
    said = "val: metrics: psnr: calculate_psnr compares with ground truth, which these datasets do not have"
    assert texts(opt) == [said]


def test_each_is_tried_once_and_leaves_generators_alone(
    opt: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    class Drawing(torch.nn.L1Loss):
        def forward(self, output: Any, gt: Any) -> Any:
            tried.append(random.random() + np.random.rand() + float(torch.rand(())))
            return super().forward(output, gt)

    monkeypatch.setitem(LOSS_REGISTRY._obj_map, "Drawing", Drawing)
    opt["train"]["pixel_opt"] = {"type": "Drawing"}

    def drawn() -> list[float]:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        option_mistakes(opt)
        return [random.random(), np.random.rand(), float(torch.rand(()))]

    assert drawn() == drawn()
    assert len(tried) == 1


def test_when_a_training_starts(opt: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is tried; of a training of anybody else's model nothing runs."""
    tried = []

    def own(img: Any, img2: Any) -> float:
        tried.append(img.shape)
        raise OSError("it fails")

    monkeypatch.setitem(METRIC_REGISTRY._obj_map, "own", own)
    opt["val"]["metrics"] = {"m": {"type": "own"}}
    given = argparse.Namespace(opt=tmp_path / "x.yml", force_yml=[], launcher="none")
    given.opt.write_text(yaml.safe_dump(opt | {"model_type": "SRModel"}))
    options._check(given, str, is_train=True)
    assert tried == []
    given.opt.write_text(yaml.safe_dump(opt))
    with pytest.raises(OptionError, match="val: metrics: m: fails when tried on noise: OSError: it fails"):
        options._check(given, str, is_train=True)
    assert tried
