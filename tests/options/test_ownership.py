"""Keys are judged by the class that the registry holds: ours, BasicSR's own, or somebody else's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.models.sr_model import SRModel
from basicsr.utils import registry as registries
from helpers.small.options import paired_options, photo_options

from lmlt_arch.hook.patches import all_patches
from lmlt_arch.models import ESCModel, LMLTModel
from lmlt_arch.options import OptionError, option_mistakes, option_notes
from lmlt_arch.options.checks.run import checked_options
from realsr.models import ESCRealMSEModel

NAMES = ("ARCH_REGISTRY", "MODEL_REGISTRY", "LOSS_REGISTRY", "DATASET_REGISTRY", "METRIC_REGISTRY")


@pytest.fixture(autouse=True)
def kept_registries() -> Iterator[None]:
    """The registries are after each test what they were before."""
    kept = [(r := getattr(registries, name), copy.copy(vars(r))) for name in NAMES]
    for registry, values in kept:
        values |= {k: dict(v) for k, v in vars(registry).items() if isinstance(v, dict)}
    yield
    for registry, values in kept:
        vars(registry).update(values)


@pytest.fixture
def opt(tmp_path: Path) -> dict[str, Any]:
    return paired_options(tmp_path)


def texts(opt: dict[str, Any]) -> list[str]:
    return str(OptionError(option_mistakes(opt))).splitlines()


def notes(opt: dict[str, Any]) -> list[str]:
    return str(OptionError(option_notes(opt))).splitlines()


def own_model(name: str, base: type) -> None:
    registries.MODEL_REGISTRY.register()(type(name, (base,), {}))


@pytest.mark.parametrize("name", ["ESRModel", "LMLTModel", "MyModel"])
def test_own_model_of_any_name_has_keys_of_its_own(opt: dict[str, Any], name: str) -> None:
    own_model(name, SRModel)
    opt |= {"model_type": name, "my_top": {"a": 1}, "scale": 2.5, "tile": [4, 4]}
    opt["train"] |= {"my_weight": 0.5, "amp": True, "freeze": "all", "gan_opt": None}
    opt["datasets"]["train"]["my_key"] = 1
    opt["val"]["my_val"] = 2
    opt["logger"]["my_log"] = 3
    opt["path"]["my_file"] = 4
    assert option_mistakes(opt) == []
    assert notes(opt) == [f"model_type: the keys of {name} are its own: unknown ones are let through"]
    # What holds for every file of BasicSR is still checked.
    opt["datasets"]["val"]["type"] = "PairedImageDatset"
    opt["network_g"]["dmi"] = 3
    opt["train"]["total_iter"] = "many"
    opt["train"]["optim_g"]["type"] = "AdamW"
    found = "\n".join(texts(opt))
    for words in ("did you mean 'PairedImageDataset'", "did you mean 'dim'", "total_iter: must be a whole"):
        assert words in found
    assert f"AdamW is not made by {name} of this BasicSR, which knows Adam" in found
    assert len(found.splitlines()) == 4


@pytest.mark.parametrize("base", [LMLTModel, ESCModel, ESCRealMSEModel])
def test_a_class_made_from_ours_may_read_more(tmp_path: Path, base: type) -> None:
    real = base is ESCRealMSEModel
    opt = photo_options(tmp_path) if real else paired_options(tmp_path)
    own_model("MyModel", base)
    opt |= {"model_type": "MyModel", "my_top": 1}
    opt["logger"]["use_tb_logger"] = False  # defaults are written for our own classes only
    opt["train"] |= {"my_weight": 0.5, "gan_opt": {"type": "GANLoss", "gan_type": "vanilla"}}
    assert option_mistakes(opt) == []
    checked_options(opt | {"is_train": True})
    opt["train"]["amp"] = "fp8"
    with pytest.raises(OptionError, match="amp: must be one of bf16, fp16"):
        checked_options(opt | {"is_train": True})
    if real:
        del opt["jpeg_range"]
        assert "jpeg_range: is missing" in texts(opt)


def test_a_key_too_many_is_refused_for_our_own_class(opt: dict[str, Any]) -> None:
    opt["train"]["my_weight"] = 0.5
    with pytest.raises(OptionError, match="unknown key 'my_weight'"):
        checked_options(opt | {"is_train": True})


def test_own_dataset_network_loss_and_metric_of_our_names(opt: dict[str, Any]) -> None:
    class PairedCropDataset(PairedImageDataset):  # type: ignore[misc]
        pass

    class ESC(MSRResNet):  # type: ignore[misc]
        pass

    class FFTLoss(torch.nn.L1Loss):
        def __init__(self, own_weight: float = 1.0) -> None:
            super().__init__()

    def calculate_lpips(img: Any, img2: Any, own: int, better: str) -> float:
        return 0.0

    registries.DATASET_REGISTRY.register()(PairedCropDataset)
    registries.ARCH_REGISTRY.register()(ESC)
    registries.LOSS_REGISTRY.register()(FFTLoss)
    registries.METRIC_REGISTRY.register()(calculate_lpips)
    data = opt["datasets"]["train"]
    data |= {"type": "PairedCropDataset", "own_key": 3, "gt_size": [33, 35], "color": "rgb"}
    opt["network_g"] = {"type": "ESC", "num_feat": 8, "num_block": 1, "upscale": 2}
    opt["train"]["fft_opt"] = {"type": "FFTLoss", "own_weight": 2.0}
    opt["val"]["metrics"]["lpips"] = {"type": "calculate_lpips", "own": 3, "better": "lower"}
    assert option_mistakes(opt) == []
    # What BasicSR's loader reads is the same for every class.
    data["batch_size_per_gpu"] = "two"
    opt["network_g"]["num_fat"] = 8
    assert len(texts(opt)) == 2


OF_OURS: list[tuple[str, str, Any]] = [
    ("train", "amp", "bf16"),
    ("train", "grad_clip", 1.0),
    ("train", "accumulation_steps", 2),
    ("train", "freeze", ["to_feat"]),
    ("train", "checkpointing", True),
    ("train", "channels_last", True),
    ("train", "deterministic", True),
    ("path", "vgg", "vgg.pth"),
    ("val", "degradation_seed", 3),
]


@pytest.mark.parametrize(("section", "key", "value"), OF_OURS)
def test_keys_that_stock_sr_model_does_not_read(
    opt: dict[str, Any], section: str, key: str, value: Any
) -> None:
    opt["model_type"] = "SRModel"
    assert option_mistakes(opt) == []
    opt[section][key] = value
    assert texts(opt) == [f"{section}: {key}: is not read by SRModel: take model_type: LMLTModel"]


def test_other_places_and_the_model_for_the_network(opt: dict[str, Any]) -> None:
    opt["model_type"] = "SRModel"
    opt["network_g"] = {"type": "ESC", "dim": 16, "pdim": 4, "window_size": 8, "num_heads": 2}
    opt["network_g"] |= {"kernel_size": 5, "n_blocks": 1, "conv_blocks": 1, "upscaling_factor": 2}
    opt["tile"] = {"tile_size": 16, "tile_pad": 4}
    opt["datasets"]["train"]["damaged_images"] = "skip"
    opt["train"]["optim_g"]["type"] = "AdamW"
    assert texts(opt) == [
        "train: optim_g: type: AdamW is not made by SRModel of this BasicSR, which knows Adam: take one of "
        "them, or model_type: ESCModel",
        "tile: is not read by SRModel: take model_type: ESCModel",
        "datasets: train: damaged_images: is not read by SRModel: take model_type: ESCModel",
    ]


def test_what_an_sr_model_makes_and_reads_is_asked_of_its_code(
    opt: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = SRModel.get_optimizer

    def get_optimizer(self: Any, kind: str, params: Any, lr: float, **more: Any) -> Any:
        return (
            torch.optim.AdamW(params, lr, **more)
            if kind == "AdamW"
            else stock(self, kind, params, lr, **more)
        )

    get_optimizer.__module__ = "basicsr.models.base_model"
    monkeypatch.setattr(SRModel, "get_optimizer", get_optimizer)
    opt["model_type"] = "SRModel"
    opt["train"]["optim_g"]["type"] = "AdamW"
    assert option_mistakes(opt) == []
    # A text for a number is none to stock code.
    opt["train"]["optim_g"]["lr"] = "1e-3"
    assert len(texts(opt)) == 1


def test_names_of_patches(opt: dict[str, Any]) -> None:
    names = [patch.name for patch in all_patches()]
    opt["lmlt"] = {"mends": names}
    assert option_mistakes(opt) == []
    opt["lmlt"] = {"mends": "all"}
    assert option_mistakes(opt) == []
    opt["lmlt"] = {"mends": [names[0] + "x", "nothing of the kind"]}
    found = texts(opt)
    assert found[0] == f"lmlt: mends[0]: there is no patch {names[0] + 'x'!r}; did you mean {names[0]!r}?"
    assert found[1] == "lmlt: mends[1]: there is no patch 'nothing of the kind'"
