"""The option files: what they say, that BasicSR reads them, and that they come from the generator."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.utils.options import parse_options
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY
from helpers.official_degradation import official_options

from lmlt_arch.options.checks.run import checked_options

# From the papers' tables, by scale.
PARAMETERS = {
    "LMLT_tiny": (239_340, 244_215, 251_040),
    "LMLT": (652_332, 660_447, 671_808),
    "LMLT_large": (1_268_076, 1_279_431, 1_295_328),
    "ESC": (946_728, 955_383, 967_500),
    "ESC_light": (603_600, 612_255, 624_372),
    "ESC_FP": (523_675, 530_170, 539_263),
    "ESC_XL": (12_455_916, 12_481_851, 12_518_160),
    "ESC_DFLIP": (946_728, 955_383, 967_500),
}
SCALES = (2, 3, 4)
CASES = list(itertools.product(PARAMETERS, SCALES))
REAL_CASES = [("ESCReal", 4), ("ESCRealM", 1), ("ESCRealM", 2), ("ESCRealM", 4)]
REAL_PARAMETERS = (2_265_307, 2_296_987, 2_271_643, 2_265_307)
ADAM = {"type": "Adam", "betas": [0.9, 0.99], "weight_decay": 0}


@pytest.fixture
def parse(repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def parse(name: str, is_train: bool) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["basicsr", "-opt", str(repo_root / "options" / f"{name}.yml")])
        opt: dict[str, Any] = parse_options(str(tmp_path), is_train=is_train)[0]
        return checked_options(opt)

    return parse


@pytest.fixture(scope="module")
def generator(repo_root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_options", repo_root / "scripts/generate_options.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("model", "scale"), CASES)
def test_training_follows_the_paper(parse: Any, model: str, scale: int) -> None:
    opt = parse(f"train_{model}_x{scale}", is_train=True)
    train, data, path = opt["train"], opt["datasets"]["train"], opt["path"]
    lmlt = model.startswith("LMLT")
    assert opt["name"] == f"train_{model}_x{scale}"
    assert opt["scale"] == scale
    assert MODEL_REGISTRY.get(opt["model_type"]).__name__ == ("LMLTModel" if lmlt else "ESCModel")
    assert data["gt_size"] == {2: 128, 3: 192, 4: 256}[scale]
    assert data["use_hflip"] is True
    assert data["use_rot"] is True
    assert train["total_iter"] == 500_000
    assert train["ema_decay"] == 0.999
    assert train["pixel_opt"] == {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    if lmlt:
        assert opt["manual_seed"] == 10
        assert (train["total_batch"], data["dataset_enlarge_ratio"]) == (64, 10)
        assert train["optim_g"] == {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0}
        assert train["scheduler"] == {
            "type": "CosineAnnealingRestartLR",
            "periods": [500_000],
            "restart_weights": [1],
            "eta_min": 1e-5,
        }
        assert train["warmup_iter"] == -1
        assert train["fft_opt"] == {"type": "FFTLoss", "loss_weight": 0.05, "reduction": "mean"}
        assert path["pretrain_network_g"] is None
    else:
        assert opt["manual_seed"] == 0
        assert (train["total_batch"], data["dataset_enlarge_ratio"]) == (64, 1)
        assert train["optim_g"] == {"type": "AdamW", "lr": 5e-4, "betas": [0.9, 0.9], "weight_decay": 0}
        assert train["scheduler"] == {
            "type": "MultiStepLR",
            "milestones": [250_000, 400_000, 450_000, 475_000, 490_000],
            "gamma": 0.5,
        }
        assert train["warmup_iter"] == 20_000
        assert "fft_opt" not in train
        x2 = parse(f"train_{model}_x2", is_train=True)["name"]
        start = None if scale == 2 else f"experiments/{x2}/models/net_g_latest.pth"
        assert path["pretrain_network_g"] == start
        assert path.get("param_key_g") == (start and "params_ema")
    assert path["strict_load_g"] is True
    assert opt["val"]["val_freq"] == 5000
    assert opt["logger"]["use_tb_logger"] is True
    check_metrics_and_paths(opt, scale)


@pytest.mark.parametrize(("model", "scale"), CASES)
def test_testing_follows_the_paper(parse: Any, model: str, scale: int) -> None:
    opt = parse(f"test_{model}_x{scale}", is_train=False)
    trained = parse(f"train_{model}_x{scale}", is_train=True)
    names = [opt["datasets"][f"test_{number}"]["name"] for number in range(1, 6)]
    assert names == ["Set5", "Set14", "B100", "Urban100", "Manga109"]
    assert opt["name"] == f"test_{model}_x{scale}"
    assert opt["network_g"] == trained["network_g"]
    assert opt["model_type"] == trained["model_type"]
    assert opt["path"]["pretrain_network_g"] == f"experiments/{trained['name']}/models/net_g_latest.pth"
    assert opt["path"]["param_key_g"] == ("params" if model.startswith("LMLT") else "params_ema")
    check_metrics_and_paths(opt, scale)

    net = build_network(opt["network_g"])
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == PARAMETERS[model][SCALES.index(scale)]


@pytest.mark.parametrize(("model", "scale"), REAL_CASES)
def test_stage_1_for_real_photos_follows_the_paper(parse: Any, model: str, scale: int) -> None:
    opt = parse(f"train_{model}_MSE_x{scale}", is_train=True)
    train = opt["train"]
    check_real_network(opt, model, scale)
    check_published_data(opt)
    assert opt["model_type"] == "ESCRealMSEModel"
    assert opt["gt_usm"] is True
    assert train["optim_g"] == {"type": "AdamW", "lr": 5e-4, "betas": [0.9, 0.9], "weight_decay": 0}
    assert train["scheduler"] == {"type": "MultiStepLR", "milestones": [100_000], "gamma": 0.4}
    assert train["total_iter"] == 1_000_000
    assert train["pixel_opt"] == {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    assert not {"perceptual_opt", "gan_opt", "optim_d"} & train.keys()
    assert "network_d" not in opt
    assert opt["path"]["pretrain_network_g"] is None


@pytest.mark.parametrize(("model", "scale"), REAL_CASES)
def test_stage_2_for_real_photos_follows_the_paper(parse: Any, model: str, scale: int) -> None:
    opt = parse(f"train_{model}_GAN_x{scale}", is_train=True)
    train = opt["train"]
    check_real_network(opt, model, scale)
    check_published_data(opt)
    check_gan_losses(opt)
    assert train["optim_g"] == train["optim_d"] == {**ADAM, "lr": 1e-4}
    assert train["scheduler"] == {"type": "MultiStepLR", "milestones": [400_000], "gamma": 0.5}
    assert train["total_iter"] == 400_000
    assert (train["net_d_iters"], train["net_d_init_iters"]) == (1, 0)
    first = parse(f"train_{model}_MSE_x{scale}", is_train=True)["name"]
    assert opt["path"]["pretrain_network_g"] == f"experiments/{first}/models/net_g_latest.pth"
    assert opt["path"]["param_key_g"] == "params_ema"


@pytest.mark.parametrize(("case", "count"), [*zip(REAL_CASES, REAL_PARAMETERS, strict=True)])
def test_testing_on_real_photos(parse: Any, case: tuple[str, int], count: int) -> None:
    model, scale = case
    opt = parse(f"test_{model}_x{scale}", is_train=False)
    trained = parse(f"train_{model}_GAN_x{scale}", is_train=True)
    assert opt["network_g"] == trained["network_g"]
    assert opt["path"]["pretrain_network_g"] == f"experiments/{trained['name']}/models/net_g_latest.pth"
    assert opt["path"]["param_key_g"] == "params_ema"
    (data,) = opt["datasets"].values()
    assert data["type"] == "SingleImageDataset", "photographs without ground truth"
    assert [metric["type"] for metric in opt["val"]["metrics"].values()] == ["calculate_niqe"]
    with torch.device("meta"):
        net = build_network(opt["network_g"])
    assert sum(parameter.numel() for parameter in net.parameters()) == count


@pytest.mark.parametrize("paired", [False, True])
def test_fine_tuning_is_gentle(parse: Any, repo_root: Path, paired: bool) -> None:
    name = "finetune_ESCReal_paired_x4" if paired else "finetune_ESCReal_x4"
    opt = parse(name, is_train=True)
    published = parse("train_ESCReal_GAN_x4", is_train=True)
    train = opt["train"]
    check_real_network(opt, "ESCReal", 4)
    check_gan_losses(opt)
    assert opt["path"]["param_key_g"] == "params_ema"
    assert opt["path"]["strict_load_g"] is True
    assert train["optim_g"]["lr"] < published["train"]["optim_g"]["lr"] / 4
    assert train["net_d_init_iters"] > 0
    assert train["total_iter"] <= 50_000
    for phase in ("train", "val"):
        kind = "PairedImageDataset" if paired else "HQImageDataset"
        assert opt["datasets"][phase]["type"] == kind
    if paired:
        assert opt["high_order_degradation"] is False
        assert opt["datasets"]["train"]["gt_size"] == 256
    else:
        check_degradation(opt)
        assert opt["queue_size"] % opt["datasets"]["train"]["batch_size_per_gpu"] == 0
    # What is only proposed must be right too, once it is taken in.
    text = (repo_root / "options" / f"{name}.yml").read_text()
    for proposal in ("# freeze:", "# gradient_penalty:", "#   type: r1", "#   weight: 10.0", "#   every: 1"):
        assert proposal in text
        text = text.replace(proposal, proposal.removeprefix("# "))
    proposed = yaml.safe_load(text)["train"]
    assert proposed["gradient_penalty"] == {"type": "r1", "weight": 10.0, "every": 1}
    assert checked_options({**opt, "train": {**train, **proposed}})
    with torch.device("meta"):
        net = build_network(opt["network_g"])
    names = [name for name, _ in net.named_parameters()]
    assert all(any(name.startswith(prefix) for name in names) for prefix in proposed["freeze"])


def check_real_network(opt: dict[str, Any], model: str, scale: int) -> None:
    more = {"mid_dim": 48, "upsampler": "nearest+conv", "unshuffle_mod": True} if model == "ESCRealM" else {}
    assert opt["scale"] == scale
    assert opt["manual_seed"] == 0
    assert opt["train"]["ema_decay"] == 0.999
    assert opt["train"]["warmup_iter"] == -1
    assert opt["network_g"] == {
        "type": model,
        "dim": 64,
        "pdim": 16,
        "kernel_size": 13,
        "n_blocks": 10,
        "conv_blocks": 5,
        "window_size": 32,
        "num_heads": 4,
        "exp_ratio": 2,
        "upscaling_factor": scale,
        **more,
    }


def check_published_data(opt: dict[str, Any]) -> None:
    data = opt["datasets"]["train"]
    check_degradation(opt)
    assert data["type"] in DATASET_REGISTRY
    assert (data["batch_size_per_gpu"], data["dataset_enlarge_ratio"]) == (12, 1)
    assert (data["use_hflip"], data["use_rot"]) == (True, False)


def check_degradation(opt: dict[str, Any]) -> None:
    official = official_options()
    ours = {key: opt[key] for key in official if key not in ("scale", "gt_usm", "datasets")}
    assert ours == {key: official[key] for key in ours}
    kernels = official["datasets"]["train"]
    assert {key: opt["datasets"]["train"][key] for key in kernels} == kernels
    assert opt["datasets"]["train"]["crop_pad_size"] == 400


def check_gan_losses(opt: dict[str, Any]) -> None:
    train = opt["train"]
    assert opt["model_type"] == "ESCRealGANModel"
    assert (opt["l1_gt_usm"], opt["percep_gt_usm"], opt["gan_gt_usm"]) == (True, True, False)
    assert opt["network_d"] == {
        "type": "UNetDiscriminatorSN",
        "num_in_ch": 3,
        "num_feat": 64,
        "skip_connection": True,
    }
    assert train["pixel_opt"] == {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    assert train["perceptual_opt"] == {
        "type": "PerceptualLoss",
        "layer_weights": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1},
        "vgg_type": "vgg19",
        "use_input_norm": True,
        "perceptual_weight": 1.0,
        "style_weight": 0,
        "range_norm": False,
        "criterion": "l1",
    }
    assert train["gan_opt"] == {
        "type": "GANLoss",
        "gan_type": "vanilla",
        "real_label_val": 1.0,
        "fake_label_val": 0.0,
        "loss_weight": 0.1,
    }


def check_metrics_and_paths(opt: dict[str, Any], scale: int) -> None:
    assert opt["val"]["metrics"] == {
        name: {"type": f"calculate_{name}", "crop_border": scale, "test_y_channel": True, "better": "higher"}
        for name in ("psnr", "ssim")
    }
    for phase, dataset in opt["datasets"].items():
        assert dataset["type"] in DATASET_REGISTRY
        roots = [value for key, value in dataset.items() if key.startswith("dataroot_")]
        assert all(root.startswith("datasets/") for root in roots)
        assert all(("X" not in root) or f"X{scale}" in root for root in roots)
        if phase != "train":
            assert dataset["filename_tmpl"] == f"{{}}x{scale}"
            assert roots == [
                f"datasets/benchmark/{dataset['name']}/{part}" for part in ("HR", f"LR_bicubic/X{scale}")
            ]


@pytest.mark.parametrize("scale", SCALES)
def test_dflip_images_are_downsampled_on_the_fly(parse: Any, tmp_path: Path, scale: int) -> None:
    opt = parse(f"train_ESC_DFLIP_x{scale}", is_train=True)["datasets"]["train"]
    (tmp_path / "LSDIR" / "0001").mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 256, (270, 300, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "LSDIR" / "0001" / "picture.png"), image)
    item = build_dataset({**opt, "dataroot_gt": str(tmp_path)})[0]
    assert item["gt"].shape == (3, 64 * scale, 64 * scale)
    assert item["lq"].shape == (3, 64, 64)


def test_any_scale(parse: Any) -> None:
    """The published recipe, and a test at scales seen and unseen, fractions and another aspect."""
    opt = parse("train_ESC_LTE", is_train=True)
    data, train = opt["datasets"]["train"], opt["train"]
    assert sum(p.numel() for p in build_network(opt["network_g"]).parameters()) == 1_433_631
    assert (data["lq_size"], data["scales"], train["queries"]) == (64, [1, 4], 2304)
    assert train["total_batch"] == 32
    assert train["optim_g"]["lr"] == 2e-4
    # 1000 epochs of 20 repeats of 800 images in batches of 32.
    assert train["total_iter"] == 1000 * 20 * 800 // 32
    assert train["scheduler"]["milestones"] == [train["total_iter"] * n // 1000 for n in (500, 800, 900, 950)]
    validated = [s["at_scale"] for name, s in opt["datasets"].items() if name.startswith("val")]
    assert validated == [2, 3, 4, 6, 8, 12]
    tested = [s["at_scale"] for s in parse("test_ESC_LTE", is_train=False)["datasets"].values()]
    assert tested == 5 * [2, 3, 4, 6, 8, 12, 2.7, [1.5, 3.5]]


def test_templates_are_yaml(generator: ModuleType) -> None:
    templates = {path.stem: path for path in generator.TEMPLATES.rglob("*.yml")}
    for path in templates.values():
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
    # None is there for nothing.
    used = {template for row in generator.TABLE for template in row.family.files.values()}
    used |= {row.values["train_set"] for row in generator.TABLE if row.values}
    used |= {"start_fresh", "start_from_x2"}
    for path in templates.values():
        used |= {match["part"] for match in map(generator.INCLUDE.fullmatch, path.open()) if match}
    assert used == templates.keys()


def test_a_template_needs_every_value(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "TEMPLATES", tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/set.yml").write_text("$phase:\n\n  scale: $scale\n")
    (tmp_path / "any.yml").write_text(
        "network: $network\n# x$absent\nsets:\n  # include: set, for each of sets\nend: ${scale}x\n"
    )
    values = {"scale": 2, "network": {"a": True}, "absent": None, "sets": [{"phase": 1}, {"phase": 2}]}
    assert "".join(generator.filled("any", values)) == (
        "network:\n  a: true\nsets:\n  1:\n\n    scale: 2\n\n  2:\n\n    scale: 2\nend: 2x\n"
    )
    del values["scale"]
    with pytest.raises(KeyError, match="scale"):
        "".join(generator.filled("any", values))


def test_files_come_from_the_generator(
    generator: ModuleType, repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = (repo_root / "options").glob("[tf]*_*.yml")
    files = {path.name: path.read_text() for path in present}
    names = [f"{phase}_{m}_x{s}" for phase in ("train", "test") for m, s in CASES]
    names += [f"train_{m}_{stage}_x{s}" for stage in ("MSE", "GAN") for m, s in REAL_CASES]
    names += [f"test_{m}_x{s}" for m, s in REAL_CASES]
    names += ["train_ESC_LTE", "test_ESC_LTE", "finetune_ESCReal_x4", "finetune_ESCReal_paired_x4"]
    assert files.keys() == {f"{name}.yml" for name in names}
    assert files == generator.option_files()

    monkeypatch.setattr(generator, "OPTIONS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate_options.py"])
    (tmp_path / "train_old.yml").write_text("name: no longer published\n")
    (tmp_path / "mine.yml").write_text("name: somebody's own\n")
    assert generator.main() == 0
    (tmp_path / "mine.yml").unlink()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files

    monkeypatch.setattr(sys, "argv", ["generate_options.py", "--check"])
    assert generator.main() == 0
    drifted = tmp_path / "train_LMLT_x4.yml"
    drifted.write_text(drifted.read_text().replace("1e-3", "2e-3"))
    assert generator.main() == 1
    assert "2e-3" in drifted.read_text()
