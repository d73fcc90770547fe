"""Training steps and validation of the models, on tiny networks."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import LOSS_REGISTRY
from helpers.small.models import step
from torch import nn

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


def test_enlarge_is_upscale_and_what_overrides_it_is_called(make_options: Any) -> None:
    model = LMLTModel({**make_options("LMLT"), "val": {}})
    model.lq = torch.rand(1, 3, 16, 16)
    model.test()
    with pytest.warns(DeprecationWarning, match=r"LMLTModel\.enlarge is now upscale"), torch.no_grad():
        assert torch.equal(model.enlarge(model.net_g, model.lq), model.upscale(model.net_g, model.lq))
    with pytest.warns(DeprecationWarning, match=r"Negative\.enlarge is now upscale"):

        class Negative(LMLTModel):  # type: ignore[misc,unused-ignore]
            def enlarge(self, net: nn.Module, lq: torch.Tensor) -> torch.Tensor:
                return -super().enlarge(net, lq)

    model.__class__ = Negative
    expected = -model.output
    with pytest.warns(DeprecationWarning):
        model.test()
    assert torch.equal(model.output, expected)


def test_enlarge_of_a_mixin_and_of_a_base_is_called(make_options: Any) -> None:
    class Twice:
        def enlarge(self, net: nn.Module, lq: torch.Tensor) -> torch.Tensor:
            return 2 * super().enlarge(net, lq)  # type: ignore[misc,no-any-return]

    model = LMLTModel({**make_options("LMLT"), "val": {}})
    model.lq = torch.rand(1, 3, 16, 16)
    model.test()
    once = model.output
    with pytest.warns(DeprecationWarning):

        class Mixed(Twice, LMLTModel):  # type: ignore[misc,unused-ignore]
            pass

        class Derived(Mixed):
            def upscale(self, net: nn.Module, lq: torch.Tensor) -> torch.Tensor:
                return super().upscale(net, lq) + 1

        model.__class__ = Derived
        model.test()
    torch.testing.assert_close(model.output, 2 * once + 1)
