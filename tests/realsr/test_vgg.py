"""Where the weights of VGG19 for the perceptual loss come from."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models import build_model
from helpers.small.stages import pair, stage_options, step
from torch import nn

from lmlt_arch.checkpoints.load import CheckpointError


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Whoever opens a socket fails; torchvision's cache is an empty folder, which is returned."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something is being downloaded")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "home" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    return cache


def with_perceptual(tmp_path: Path, model_type: str, vgg: Path | None) -> dict[str, Any]:
    perceptual = stage_options("ESCRealGANModel", tmp_path, vgg=tmp_path)["train"]["perceptual_opt"]
    return stage_options(model_type, tmp_path, vgg=vgg, train={"perceptual_opt": perceptual})


@pytest.mark.parametrize("model_type", ["ESCRealGANModel", "LMLTModel"])
def test_vgg_that_is_nowhere(no_network: Path, tmp_path: Path, model_type: str) -> None:
    usual = tmp_path / "experiments/pretrained_models/vgg19-dcbb9e9d.pth"
    with pytest.raises(FileNotFoundError) as raised:
        build_model(with_perceptual(tmp_path, model_type, None))
    for words in (str(usual), str(no_network / "vgg19-dcbb9e9d.pth"), "'vgg:' under 'path'"):
        assert words in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"path: vgg: there is no file .*mine\.pth"):
        build_model(with_perceptual(tmp_path, model_type, tmp_path / "mine.pth"))


@pytest.mark.parametrize("place", ["option", "working directory", "cache"])
def test_vgg_is_taken_from(no_network: Path, tmp_path: Path, vgg: Path, place: str) -> None:
    if place == "working directory":
        folder = tmp_path / "experiments/pretrained_models"
        folder.mkdir(parents=True)
        (folder / "vgg19-dcbb9e9d.pth").symlink_to(vgg)
    elif place == "cache":
        (no_network / "vgg19-dcbb9e9d.pth").symlink_to(vgg)
    given = vgg if place == "option" else None
    model = build_model(with_perceptual(tmp_path, "LMLTModel", given))
    extractor = model.cri_perceptual.vgg
    expected = torch.load(vgg)
    assert torch.equal(extractor.vgg_net.conv1_1.weight, expected["features.0.weight"])
    assert torch.equal(extractor.vgg_net.conv5_4.weight, expected["features.34.weight"])
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    step(model, 1, pair(0))
    assert model.get_current_log()["l_percep"] > 0


def test_vgg_that_is_something_else(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pth"
    torch.save(nn.Linear(2, 2).state_dict(), wrong)
    with pytest.raises(CheckpointError, match=r"wrong\.pth does not hold .*its 2 tensors start weight"):
        build_model(with_perceptual(tmp_path, "ESCRealGANModel", wrong))
    wrong.write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match=r"wrong\.pth: damaged"):
        build_model(with_perceptual(tmp_path, "ESCRealGANModel", wrong))
