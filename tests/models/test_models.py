"""One training step, validation, loading and saving of the models, on tiny networks."""

from __future__ import annotations

import copy
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
import yaml
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import LOSS_REGISTRY
from PIL import Image
from torch import nn

from lmlt_arch.files import OutputError
from lmlt_arch.models import ESCModel, ESRModel, LMLTModel

# As the authors publish it, with its own network name and the stock model type.
OFFICIAL_LMLT_TRAIN = """
ema_decay: 0.999
optim_g:
  type: Adam
  lr: !!float 1e-3
  weight_decay: 0
  betas: [0.9, 0.99]
scheduler:
  type: CosineAnnealingRestartLR
  periods: [500000]
  restart_weights: [1]
  eta_min: !!float 1e-5
total_iter: 500000
warmup_iter: -1 # no warm up
pixel_opt:
  type: L1Loss
  loss_weight: 1.0
  reduction: mean
fft_opt:
  type: FFTLoss
  loss_weight: 0.05
  reduction: mean
"""


class Perceptual(nn.Module):
    """A loss of the shape of BasicSR's PerceptualLoss that needs no downloaded network."""

    def forward(self, pred: torch.Tensor, gt: torch.Tensor) -> tuple[torch.Tensor, None]:
        return 0.1 * (pred.mean() - gt.mean()).square(), None


def step(model: SRModel, batch: dict[str, torch.Tensor], current_iter: int = 1) -> None:
    model.update_learning_rate(current_iter)
    model.feed_data(batch)
    model.optimize_parameters(current_iter)


def changes(before: nn.Module, after: nn.Module) -> torch.Tensor:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return torch.cat([(b - a).detach().flatten() for a, b in pairs])


@pytest.mark.parametrize(
    ("model_type", "network", "optimizer", "clip"),
    [
        (LMLTModel, "LMLT", {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0}, None),
        (ESCModel, "ESC", {"type": "AdamW", "lr": 5e-4, "betas": [0.9, 0.9], "weight_decay": 0}, 0.01),
        (LMLTModel, "LMLT", {"type": "SGD", "lr": 0.1, "momentum": 0.9}, 0.05),
    ],
)
def test_two_steps_equal_a_loop_written_by_hand(
    make_options: Any,
    batch: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    model_type: type[SRModel],
    network: str,
    optimizer: dict[str, Any],
    clip: float | None,
) -> None:
    monkeypatch.setitem(LOSS_REGISTRY._obj_map, "TinyPerceptual", Perceptual)
    train = {
        "optim_g": dict(optimizer),
        "fft_opt": {"type": "FFTLoss", "loss_weight": 0.05, "reduction": "mean"},
        "perceptual_opt": {"type": "TinyPerceptual"},
        "scheduler": {"type": "MultiStepLR", "milestones": [1], "gamma": 0.5},
        "grad_clip": clip,
    }
    model = model_type(make_options(network, train=train))
    # In float32, Adam magnifies the rounding of gradients that are zero in truth (biases of the keys).
    model.net_g.double()
    model.net_g_ema.double()
    batch = {key: value.double() for key, value in batch.items()}
    net = copy.deepcopy(model.net_g)
    average = copy.deepcopy(net)

    kind = getattr(torch.optim, optimizer["type"])
    by_hand = kind(net.parameters(), **{key: value for key, value in optimizer.items() if key != "type"})
    for iteration in (1, 2):
        step(model, batch, iteration)

        by_hand.param_groups[0]["lr"] = optimizer["lr"] * (1 if iteration == 1 else 0.5)
        out, gt = net(batch["lq"]), batch["gt"]
        spectrum = torch.fft.rfft2(out) - torch.fft.rfft2(gt)
        fft = 0.05 * (spectrum.real.abs().mean() + spectrum.imag.abs().mean()) / 2
        terms = {
            "l_pix": (out - gt).abs().mean(),
            "l_fft": fft,
            "l_percep": 0.1 * (out.mean() - gt.mean()) ** 2,
        }
        net.zero_grad()
        (terms["l_pix"] + terms["l_fft"] + terms["l_percep"]).backward()
        if clip is not None:
            norm = sum(p.grad.square().sum().item() for p in net.parameters()) ** 0.5
            assert norm > clip, "nothing to clip: the case proves nothing"
            for p in net.parameters():
                p.grad *= clip / norm
        by_hand.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                slow.copy_(0.9 * slow + 0.1 * fast)

        assert list(model.get_current_log()) == list(terms)
        for name, value in terms.items():
            assert model.get_current_log()[name] == pytest.approx(value.item(), rel=1e-6), name
    torch.testing.assert_close(dict(model.net_g.named_parameters()), dict(net.named_parameters()))
    torch.testing.assert_close(dict(model.net_g_ema.named_parameters()), dict(average.named_parameters()))


def test_clipping_bounds_the_step(make_options: Any, batch: dict[str, torch.Tensor]) -> None:
    sizes = {}
    for clip in (None, 0.02):
        train = {"optim_g": {"type": "SGD", "lr": 1.0}, "grad_clip": clip}
        torch.manual_seed(0)
        model = ESCModel(make_options("ESC", train=train))
        before = copy.deepcopy(model.net_g)
        step(model, batch)
        sizes[clip] = changes(before, model.net_g).norm().item()
    assert sizes[None] > 0.04
    assert sizes[0.02] == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("name", ["AdamW", "NAdam", "RMSprop", "Adagrad", "RAdam"])
def test_optimizers_of_torch_by_name(make_options: Any, batch: dict[str, torch.Tensor], name: str) -> None:
    model = LMLTModel(make_options("LMLT", train={"optim_g": {"type": name, "lr": "1e-3"}}))
    before = copy.deepcopy(model.net_g)
    step(model, batch)
    assert type(model.optimizer_g) is getattr(torch.optim, name)
    assert changes(before, model.net_g).abs().max() > 0


def test_official_schedules(make_options: Any) -> None:
    cosine = {"type": "CosineAnnealingRestartLR", "periods": [8], "restart_weights": [1], "eta_min": "1e-5"}
    steps = {"type": "MultiStepLR", "milestones": [3, 5], "gamma": 0.5}
    rates: dict[str, list[float]] = {}
    for schedule in (cosine, steps):
        model = LMLTModel(make_options("LMLT", train={"scheduler": dict(schedule)}))
        rates[schedule["type"]] = []
        for iteration in range(1, 9):
            model.optimizer_g.step()
            model.update_learning_rate(iteration)
            rates[schedule["type"]] += model.get_current_learning_rate()
    expected = [1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * i / 8)) / 2 for i in range(8)]
    np.testing.assert_allclose(rates["CosineAnnealingRestartLR"], expected, rtol=1e-9)
    np.testing.assert_allclose(rates["MultiStepLR"], [1e-3] * 3 + [5e-4] * 2 + [2.5e-4] * 3, rtol=1e-9)


def test_official_file_with_the_stock_model_type_trains_with_its_fft_loss(
    make_options: Any, batch: dict[str, torch.Tensor]
) -> None:
    train = yaml.safe_load(OFFICIAL_LMLT_TRAIN.replace("!!float ", ""))
    assert train["optim_g"]["lr"] == "1e-3", "YAML reads this as text; it must work all the same"
    for model_type in ("SRModel", "LMLTModel"):
        opt = make_options("LMLT")
        model = build_model({**opt, "model_type": model_type, "train": train})
        step(model, batch)
        assert isinstance(model, LMLTModel)
        assert list(model.get_current_log()) == ["l_pix", "l_fft"]


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


@pytest.mark.parametrize(("term", "train"), [("l_pix", {}), ("l_fft", {"fft_opt": {"type": "FFTLoss"}})])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(
    make_options: Any, batch: dict[str, torch.Tensor], tmp_path: Path, term: str, train: dict[str, Any]
) -> None:
    model = LMLTModel(make_options("LMLT", train=train))
    step(model, batch)
    broken = {**batch, "gt": batch["gt"].clone(), "gt_path": ["HR/0801.png", "HR/0802.png"]}
    broken["gt"][1, 2, 3, 4] = float("nan") if term == "l_pix" else float("inf")
    step(model, broken, 2)
    refused = rf"iteration 2: .*{term} is (nan|inf).*HR/0801.png, HR/0802"
    # Whatever comes next: another iteration, the log, or a checkpoint, which is not written.
    for following in (
        lambda: step(model, batch, 3),
        model.get_current_log,
        lambda: model.save(epoch=0, current_iter=2),
    ):
        outcome = model.loss_watch.last
        with pytest.raises(FloatingPointError, match=refused):
            following()
        model.loss_watch.last = outcome
    assert not [*(tmp_path / "models").iterdir()]
    kept = tmp_path / "nonfinite_2_rank0"
    content = torch.load(kept / "batch.pth", weights_only=True)
    assert content["files"] == broken["gt_path"]
    torch.testing.assert_close(content["gt"], broken["gt"], equal_nan=True)
    with Image.open(kept / "lq.png") as shown:
        assert shown.size == (32, 16)
        expected = batch["lq"].mul(255).round().byte().permute(2, 0, 3, 1).flatten(1, 2).numpy()
        assert np.array_equal(np.asarray(shown), expected)


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
    def draws() -> list[float]:
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
    expected = draws()
    state = tmp_path / "training_states" / "1.state"
    resumed = LMLTModel(make_options("LMLT", path={"resume_state": str(state)}))
    resumed.resume_training(torch.load(state, weights_only=True))
    draws()
    resumed.update_learning_rate(2)
    assert draws() == expected
    resumed.update_learning_rate(3)
    assert draws() != expected, "only once"


@pytest.mark.parametrize("size", [(16, 24), (13, 21), (3, 30)])
def test_esc_validates_on_images_padded_to_whole_windows(make_options: Any, size: tuple[int, int]) -> None:
    model = ESRModel(make_options("ESC", is_train=False))
    for parameter in model.net_g.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.net_g.eval()
    image = torch.rand(1, 3, *size)
    model.feed_data({"lq": image})
    model.test()

    height, width = size
    extra = ((0, 0), (0, 0), (0, -height % 8), (0, -width % 8))
    padded = torch.from_numpy(np.pad(image.numpy(), extra, mode="reflect"))
    with torch.no_grad():
        expected = model.net_g(padded)[:, :, : 2 * height, : 2 * width]
        unpadded = model.net_g(image)
    assert model.output.shape == (1, 3, 2 * height, 2 * width)
    torch.testing.assert_close(model.output, expected)
    torch.testing.assert_close(model.lq, image)
    if size != (16, 24):
        assert (model.output - unpadded).abs().max() > 1e-3, "image and feature padding must differ here"


def test_lmlt_validates_the_plain_image(make_options: Any) -> None:
    model = LMLTModel(make_options("LMLT", is_train=False))
    image = torch.rand(1, 3, 13, 21)
    model.feed_data({"lq": image})
    model.test()
    with torch.no_grad():
        torch.testing.assert_close(model.output, model.net_g.eval()(image))


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
    assert ours[1].pop("plugin").keys() == {"scaler", "sampler", "best_metrics"}
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
