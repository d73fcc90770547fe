"""Patches for losses and metrics: stock code's failure without each, the result with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from helpers.stock_modules import patch, run_afresh
from scipy import linalg
from torch import nn


def test_l2_criterion() -> None:
    names = run_afresh("basicsr.losses.basic_loss")

    class Features(nn.Module):
        """In place of VGG, whose weights are a download of 550 MB."""

        def __init__(self, **kwargs: object) -> None:
            super().__init__()

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"conv1_1": 2 * image}

    names["VGGFeatureExtractor"] = Features
    with pytest.raises(AttributeError, match="L2loss"):
        names["PerceptualLoss"]({"conv1_1": 1.0}, criterion="l2")
    patch("l2-criterion-of-perceptual-loss", names)
    ones = torch.ones(1, 3, 4, 4)
    loss, _ = names["PerceptualLoss"]({"conv1_1": 1.0}, criterion="l2")(3 * ones, ones)
    assert loss.item() == pytest.approx(16)
    loss, _ = names["PerceptualLoss"]({"conv1_1": 1.0})(3 * ones, ones)
    assert loss.item() == pytest.approx(4)


def test_vgg_weights_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_afresh("basicsr.archs.vgg_arch")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(URLError):
        names["VGGFeatureExtractor"](["relu1_1"])
    patch("vgg-weights-offline", names)
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/experiments/pretrained_models/vgg19.* or into"):
        names["VGGFeatureExtractor"](["relu1_1"])


def test_vgg_file_is_no_folder(tmp_path: Path) -> None:
    names = run_afresh("basicsr.utils.misc")
    file, run = tmp_path / "vgg.pth", tmp_path / "run"
    file.touch()
    opt: dict[str, Any] = {
        "is_train": True,
        "model_type": "ESCRealGANModel",
        "path": {"experiments_root": str(run), "log": str(run / "log"), "vgg": str(file)},
    }
    with pytest.raises(FileExistsError):
        names["make_exp_dirs"](opt)
    patch("vgg-file-is-no-folder", names)
    for place, value in (("one", str(file)), ("two", None)):
        run = tmp_path / place
        opt["path"] = {"experiments_root": str(run), "log": str(run / "log"), "vgg": value}
        names["make_exp_dirs"](opt)
        assert (run / "log").is_dir()
    opt["path"]["vgg"] = str(tmp_path / "another")
    names["make_exp_dirs"]({**opt, "model_type": "SRModel"})
    assert (tmp_path / "another").is_dir(), "another model's entry is a folder"


def test_matrix_root_in_fid(monkeypatch: pytest.MonkeyPatch) -> None:
    root = linalg.sqrtm
    monkeypatch.setattr(linalg, "sqrtm", lambda A: root(A))  # as in SciPy 1.18
    names = run_afresh("basicsr.metrics.fid")
    gaussians = np.array([1.0, 2.0]), np.diag([4.0, 9.0]), np.array([0.0, 0.0]), np.diag([1.0, 1.0])
    with pytest.raises(TypeError, match="disp"):
        names["calculate_fid"](*gaussians)
    patch("matrix-root-in-fid", names)
    # |difference of means|^2 + the sum of (difference of standard deviations)^2
    assert names["calculate_fid"](*gaussians) == pytest.approx(5 + 1 + 4)
