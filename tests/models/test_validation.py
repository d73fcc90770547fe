"""Validation: its figures, files and random numbers, on one process and on two."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from basicsr.data import build_dataloader, build_dataset
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.models.sr_model import SRModel
from helpers import forked
from PIL import Image

from lmlt_arch.models import ESCModel, LMLTModel

IMAGES = 5
PSNR = {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True, "better": "higher"}
SSIM = {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": False, "better": "higher"}
NIQE = {"type": "calculate_niqe", "crop_border": 2, "better": "lower"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pairs of different sizes below `HR` and `LR`."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        width, height = 20 + 2 * number, 16 + 3 * number
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        for folder, factor in (("HR", 2), ("LR", 1)):
            (tmp_path / folder).mkdir(exist_ok=True)
            size = (width * factor, height * factor)
            coarse.resize(size, Image.Resampling.BICUBIC).save(tmp_path / folder / f"p{number}.png")
    return tmp_path


@pytest.fixture
def loader(pictures: Path) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        section = {
            "name": "pictures",
            "type": "PairedImageDataset",
            "dataroot_gt": str(pictures / "HR"),
            "dataroot_lq": str(pictures / "LR"),
            "io_backend": {"type": "disk"},
            "scale": 2,
            "phase": "val",
            **options,
        }
        return build_dataloader(build_dataset(section), section, num_gpu=0)

    return make


def validated(make_options: Any, network: str, loader: Any, *, save: bool = False, **opt: Any) -> Any:
    model_type = {"LMLT": LMLTModel, "ESC": ESCModel}[network]
    options = {**make_options(network), "val": {"metrics": {"psnr": PSNR, "ssim": SSIM}}, **opt}
    options["path"]["visualization"] = str(Path(options["path"]["models"]).parent / "visualization")
    torch.manual_seed(0)
    model = model_type(options)
    model.validation(loader, 3, None, save)
    return model


@pytest.mark.parametrize("network", ["LMLT", "ESC"])
def test_the_same_figures_and_files_as_basicsr(
    make_options: Any, loader: Any, tmp_path: Path, network: str
) -> None:
    model = validated(make_options, network, loader(), save=True)
    ours, best = dict(model.metric_results), model.best_metric_results
    saved = {
        path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("visualization/*/*.png")
    }
    assert len(saved) == IMAGES

    del model.metric_results, model.best_metric_results
    SRModel.nondist_validation(model, loader(), 3, None, True)
    assert ours == pytest.approx(model.metric_results, abs=1e-4)
    for metric, record in model.best_metric_results["pictures"].items():
        assert best["pictures"][metric]["val"] == pytest.approx(record["val"], abs=1e-4)
        assert {**best["pictures"][metric], "val": 0} == {**record, "val": 0}
    for path, content in saved.items():
        by_basicsr = np.asarray(Image.open(tmp_path / path))
        (tmp_path / path).write_bytes(content)
        assert np.array_equal(np.asarray(Image.open(tmp_path / path)), by_basicsr)


def test_random_numbers_are_left_alone(make_options: Any, loader: Any) -> None:
    def random_numbers() -> list[float]:
        return [random.random(), np.random.random(), torch.rand(()).item()]

    options = {**make_options("LMLT"), "val": {}}
    model = LMLTModel(options)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = random_numbers()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    model.validation(loader(), 1, None, False)
    assert random_numbers() == expected


def test_without_ground_truth(
    make_options: Any, loader: Any, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (pictures / "LR").iterdir():
        Image.open(path).resize((102, 56)).save(path)  # NIQE wants two blocks of 96 pixels
    metrics = {"psnr": PSNR, "niqe": NIQE}
    model = validated(make_options, "LMLT", loader(type="SingleImageDataset"), val={"metrics": metrics})
    assert model.metric_results.keys() == {"niqe"}
    expected = model.metric_results["niqe"]
    assert 0 < expected < 1000

    Image.new("RGB", (40, 30)).save(pictures / "LR" / "too_small.png")
    logger = logging.getLogger("basicsr")
    logger.addHandler(caplog.handler)
    try:
        model = validated(make_options, "LMLT", loader(type="SingleImageDataset"), val={"metrics": metrics})
    finally:
        logger.removeHandler(caplog.handler)
    assert model.metric_results == {"niqe": pytest.approx(expected)}
    assert "psnr of 6 of 6 images could not be measured" in caplog.text
    assert "niqe of 1 of 6 images could not be measured" in caplog.text


def test_ground_truth_of_training_is_not_that_of_validation(make_options: Any, loader: Any) -> None:
    model = LMLTModel({**make_options("LMLT"), "val": {"metrics": {"psnr": PSNR}}})
    model.feed_data({"lq": torch.rand(1, 3, 32, 32), "gt": torch.rand(1, 3, 64, 64)})
    model.validation(loader(type="SingleImageDataset"), 1, None, False)
    assert model.metric_results == {}


def test_pairs_of_wrong_sizes_are_named(make_options: Any, loader: Any, pictures: Path) -> None:
    Image.new("RGB", (30, 40)).save(pictures / "HR" / "p3.png")
    with pytest.raises(ValueError, match=r"p3\.png: the output is 52x50, its ground truth 30x40"):
        validated(make_options, "LMLT", loader())


def test_large_images_in_tiles(make_options: Any, loader: Any) -> None:
    whole = validated(make_options, "ESC", loader(), save=True)
    figures = whole.metric_results["psnr"]
    tiled = validated(make_options, "ESC", loader(), tile={"tile_size": 8, "tile_pad": 2})
    assert tiled.metric_results["psnr"] == pytest.approx(figures, abs=0.5)
    assert tiled.metric_results["psnr"] != figures, "tiles were not used"


@pytest.mark.slow
def test_two_processes_log_what_one_does(
    repo_root: Path, make_options: Any, pictures: Path, tiny_networks: dict[str, Any]
) -> None:
    model = ESCModel(make_options("ESC"))
    model.save(epoch=0, current_iter=-1)
    opt = {
        "model_type": "ESCModel",
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {
            "test_1": {
                "name": "pictures",
                "type": "PairedImageDataset",
                "dataroot_gt": str(pictures / "HR"),
                "dataroot_lq": str(pictures / "LR"),
                "io_backend": {"type": "disk"},
            }
        },
        "network_g": tiny_networks["ESC"],
        "path": {"pretrain_network_g": str(pictures / "models" / "net_g_latest.pth")},
        "val": {"save_img": True, "suffix": None, "metrics": {"psnr": PSNR, "ssim": SSIM}},
    }
    figures, images = [], []
    for processes in (1, 2):
        name = f"tested_{processes}"
        file = pictures / f"{name}.yml"
        file.write_text(yaml.safe_dump({**opt, "name": name}))
        launcher = ["--launcher", "pytorch"] if processes > 1 else []
        command = [repo_root / "basicsr" / "test.py", "-opt", file, *launcher]
        printed = forked.run(*command, cwd=pictures, processes=processes)
        figures.append(re.findall(r"# (psnr|ssim): ([\d.]+)", printed))
        folder = pictures / "results" / name / "visualization" / "pictures"
        images.append({path.name.split("_")[0]: np.asarray(Image.open(path)) for path in folder.iterdir()})
    assert len(figures[0]) == 2
    assert figures[0] == figures[1]
    assert images[0].keys() == images[1].keys() == {f"p{number}" for number in range(IMAGES)}
    assert all(np.array_equal(images[0][name], images[1][name]) for name in images[0])
    one = pictures / "HR" / "p0.png"
    gt = np.asarray(Image.open(one))[..., ::-1]
    assert calculate_psnr(images[0]["p0"][..., ::-1], gt, 2) < 60
    assert calculate_ssim(images[0]["p0"][..., ::-1], gt, 2) < 1
