"""Saving, resuming and loading of the models, on tiny networks."""

from __future__ import annotations

import logging
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models.sr_model import SRModel
from helpers.small.models import step

from lmlt_arch.files import OutputError
from lmlt_arch.models import ESCModel, LMLTModel


def test_a_resumed_run_may_be_made_longer(make_options: Any, batch: dict[str, torch.Tensor]) -> None:
    def cosine(iterations: int) -> dict[str, Any]:
        schedule = {"type": "CosineAnnealingRestartLR", "periods": [iterations], "restart_weights": [1]}
        return {"total_iter": iterations, "scheduler": {**schedule, "eta_min": 1e-5}}

    model = LMLTModel(make_options("LMLT", train=cosine(2)))
    for iteration in (1, 2):
        step(model, batch, iteration)
    model.save(epoch=0, current_iter=2)
    state = Path(model.opt["path"]["training_states"]) / "2.state"
    longer = LMLTModel(make_options("LMLT", train=cosine(6), path={"resume_state": str(state)}))
    longer.resume_training(torch.load(state, weights_only=True))
    for iteration in range(3, 7):
        step(longer, batch, iteration)
        expected = 1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * (iteration - 1) / 6)) / 2
        assert longer.get_current_learning_rate() == pytest.approx([expected])


def test_the_disk_keeps_few_states_of_ranks(
    make_options: Any, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = LMLTModel(make_options("LMLT"))
    for iteration in (1, 2, 10):
        step(model, batch, iteration)
        model.save(epoch=0, current_iter=iteration)
    names = sorted(path.name for path in (tmp_path / "training_states").iterdir())
    assert names == [
        "1.state",
        *("10.manifest.json", "10.rank0.pth", "10.state"),
        *("2.manifest.json", "2.rank0.pth", "2.state"),
    ]


def test_random_numbers_go_on_after_a_resume(
    make_options: Any, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    def random_numbers() -> list[float]:
        return [
            random.random(),
            random.gauss(0, 1),
            np.random.random(),
            np.random.normal(),
            torch.rand(()).item(),
        ]

    model = LMLTModel(make_options("LMLT"))
    step(model, batch)
    random.gauss(0, 1)  # leaves half of a pair behind, as does NumPy's
    np.random.normal()
    model.save(epoch=0, current_iter=1)
    expected = random_numbers()
    state = tmp_path / "training_states" / "1.state"
    resumed = LMLTModel(make_options("LMLT", path={"resume_state": str(state)}))
    resumed.resume_training(torch.load(state, weights_only=True))
    random_numbers()
    resumed.update_learning_rate(2)
    assert random_numbers() == expected
    resumed.update_learning_rate(3)
    assert random_numbers() != expected, "only once"


@pytest.mark.parametrize("scale", [3, 4])
def test_other_scales_start_from_the_averaged_x2_weights(make_options: Any, scale: int) -> None:
    x2 = ESCModel(make_options("ESC"))
    with torch.no_grad():
        for parameter in x2.net_g_ema.parameters():
            parameter.normal_()
    x2.save(epoch=0, current_iter=-1)
    file = Path(x2.opt["path"]["models"]) / "net_g_latest.pth"

    path = {"pretrain_network_g": str(file), "param_key_g": "params_ema", "strict_load_g": True}
    model = ESCModel(make_options("ESC", arguments={"upscaling_factor": scale}, path=path))
    source = x2.net_g_ema.state_dict()
    for net in (model.net_g, model.net_g_ema):
        state = net.state_dict()
        assert state["to_img.weight"].shape[0] == 3 * scale**2
        torch.testing.assert_close(
            {key: value for key, value in state.items() if not key.startswith("to_img")},
            {key: value for key, value in source.items() if not key.startswith("to_img")},
        )
        # Bilinear resizing of the s x s sub-pixel grid keeps its mean at x4, where every weight counts twice.
        if scale == 4:
            torch.testing.assert_close(
                state["to_img.bias"].reshape(3, -1).mean(1), source["to_img.bias"].reshape(3, -1).mean(1)
            )


@pytest.mark.parametrize("ema", [0, 0.9])
def test_files_are_those_of_basicsr(
    make_options: Any, batch: dict[str, torch.Tensor], tmp_path: Path, ema: float
) -> None:
    model = LMLTModel(make_options("LMLT", train={"ema_decay": ema}))
    step(model, batch)
    model.save(epoch=3, current_iter=1)
    files = ["models/net_g_1.pth", "training_states/1.state"]
    ours = [torch.load(tmp_path / name, weights_only=True) for name in files]
    assert ours[1].pop("plugin").keys() == {"scaler", "sampler", "batch", "best_metrics"}
    nets = ([model.net_g, model.net_g_ema], ["params", "params_ema"]) if ema else ([model.net_g], ["params"])
    SRModel.save_network(model, nets[0], "net_g", 1, nets[1])
    SRModel.save_training_state(model, 3, 1)
    for name, mine in zip(files, ours, strict=True):
        stock = torch.load(tmp_path / name, weights_only=True)
        assert list(mine) == list(stock)
        torch.testing.assert_close(mine, stock, rtol=0, atol=0)
    assert list(ours[0]["params"]) == list(model.net_g.state_dict())
    written = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["1.manifest.json", "1.rank0.pth", "1.state", "net_g_1.pth"]


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """No file of this process can grow beyond `free` bytes: writing fails half-way, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(
    make_options: Any, batch: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = LMLTModel(make_options("LMLT"))
    step(model, batch)
    model.save(epoch=0, current_iter=-1)
    model.save(epoch=0, current_iter=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) == 5
    smallest = min(len(content) for content in before.values())

    logger = logging.getLogger("basicsr")
    logger.addHandler(caplog.handler)
    try:
        step(model, batch, 2)
        with full_disk(smallest // 2):
            model.save(epoch=0, current_iter=2)  # overwrites a checkpoint: reported, training goes on
            with pytest.raises(OutputError, match=r"cannot write .*net_g_latest\.pth: File too large"):
                model.save(epoch=0, current_iter=-1)  # the end of a run must not pretend
        assert "Checkpoint 2 was not saved" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    model.save(epoch=0, current_iter=2)
    assert (tmp_path / "models" / "net_g_2.pth").read_bytes() != before[tmp_path / "models" / "net_g_2.pth"]
