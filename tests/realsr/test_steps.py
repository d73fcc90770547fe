"""Training steps of both stages: equal to BasicSR's and to plain ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models.realesrgan_model import RealESRGANModel
from helpers.small.stages import assert_equal, batch, pair, smallest_change, stage_options, step, weights
from torch import Tensor, nn

from lmlt_arch.losses.vgg_weights import vgg_weights

Make = Callable[..., Any]


@pytest.mark.parametrize("name", ["ESCRealMSEModel", "RealHATMSEModel"])
def test_stage_1_steps(make: Make, name: str) -> None:
    """Against plain PyTorch, on the pairs that the model made."""
    model = make(name)
    net = copy.deepcopy(model.net_g)
    averaged = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, betas=(0.9, 0.99))
    for iteration in range(1, 5):
        step(model, iteration, batch(iteration))
        if iteration == 4:
            optimizer.param_groups[0]["lr"] = 5e-4
        optimizer.zero_grad()
        loss = (net(model.lq) - model.gt).abs().mean()
        loss.backward()
        optimizer.step()
        assert model.get_current_log() == {"l_pix": pytest.approx(loss.item(), rel=1e-5)}
        with torch.no_grad():
            for mean, value in zip(averaged.parameters(), net.parameters(), strict=True):
                mean += 0.5 * (value - mean)
    torch.testing.assert_close(weights(model.net_g), weights(net), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(model.net_g_ema), weights(averaged), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("usm", "train"),
    [
        ({}, {}),
        ({"l1_gt_usm": False, "gan_gt_usm": True}, {}),
        ({"percep_gt_usm": False}, {"net_d_iters": 2}),
        ({}, {"net_d_init_iters": 2}),
    ],
)
def test_stage_2_steps_are_basicsrs(
    make: Make, tmp_path: Path, vgg: Path, usm: dict[str, bool], train: dict[str, Any]
) -> None:
    """Weights of both networks, the average and every loss term, on equal pairs."""
    model = make("RealHATGANModel", vgg=vgg, train=train, **usm)
    opt = stage_options("RealESRGANModel", tmp_path / "stock", vgg=vgg, train=train)
    with vgg_weights(str(vgg)):
        stock = RealESRGANModel({**opt, "l1_gt_usm": True, "percep_gt_usm": True, "gan_gt_usm": False, **usm})
    for name in ("net_g", "net_g_ema", "net_d"):
        getattr(stock, name).load_state_dict(getattr(model, name).state_dict())
    before = weights(model.net_g)
    for iteration in range(1, 5):
        step(model, iteration, batch(iteration))
        stock.update_learning_rate(iteration)
        stock.lq, stock.gt, stock.gt_usm = model.lq, model.gt, model.gt_usm
        stock.optimize_parameters(iteration)
        logs = model.get_current_log(), stock.get_current_log()
        assert list(logs[0]) == list(logs[1])
        assert logs[0] == pytest.approx(logs[1], rel=1e-4, abs=1e-6)
        torch.testing.assert_close(model.output, stock.output, rtol=1e-4, atol=1e-5)
    for name in ("net_g", "net_g_ema", "net_d"):
        torch.testing.assert_close(
            weights(getattr(model, name)), weights(getattr(stock, name)), rtol=1e-3, atol=2e-5
        )
    assert smallest_change(before, weights(model.net_g)) > 1e-4
    assert all(parameter.requires_grad for parameter in model.net_d.parameters())


def test_the_discriminator_warms_up_alone(make: Make) -> None:
    model = make("ESCRealGANModel", train={"net_d_init_iters": 2})
    first_g, first_d = weights(model.net_g), weights(model.net_d)
    for iteration in (1, 2):
        step(model, iteration, batch(iteration))
        assert list(model.get_current_log()) == ["l_d_real", "out_d_real", "l_d_fake", "out_d_fake"]
        assert model.output.shape == model.gt.shape
    assert_equal(weights(model.net_g), first_g)
    assert_equal(weights(model.net_g_ema), first_g)
    assert smallest_change(first_d, weights(model.net_d)) > 0
    step(model, 3, batch(3))
    assert smallest_change({"last.weight": first_g["last.weight"]}, weights(model.net_g)) > 0
    assert "l_g_gan" in model.get_current_log()


@pytest.mark.parametrize("kind", ["r1", "wgan-gp"])
def test_gradient_penalty(make: Make, kind: str) -> None:
    penalty = {"type": kind, "weight": 5.0, "every": 2}
    plain, model = make("ESCRealGANModel"), make("ESCRealGANModel", train={"gradient_penalty": penalty})
    other = make("ESCRealGANModel", train={"gradient_penalty": {**penalty, "weight": 10.0}})
    for one in (plain, model, other):
        step(one, 1, batch(1))
    assert_equal(weights(plain.net_d), weights(model.net_d))
    assert "l_d_penalty" not in model.get_current_log()
    for one in (plain, model, other):
        step(one, 2, batch(2))
    value = model.get_current_log()["l_d_penalty"]
    assert value > 0
    assert other.get_current_log()["l_d_penalty"] == pytest.approx(2 * value, rel=1e-4)
    assert not torch.equal(plain.net_d.conv0.weight, model.net_d.conv0.weight)
    assert_equal(weights(plain.net_g), weights(model.net_g))


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision(make: Make, vgg: Path, amp: str) -> None:
    penalty = {"type": "r1", "weight": 1.0, "every": 1}
    settings = {"amp": amp, "gradient_penalty": penalty}
    exact, model = (
        make("ESCRealGANModel", vgg=vgg, train=train) for train in ({"gradient_penalty": penalty}, settings)
    )
    for one in (exact, model):
        step(one, 1, batch(1))
    assert torch.equal(exact.lq, model.lq)
    assert model.output.dtype == torch.float32
    assert model.get_current_log() == pytest.approx(exact.get_current_log(), rel=0.1, abs=0.02)
    assert model.get_current_log() != exact.get_current_log()


class PlainDiscriminator(nn.Module):
    """Without spectral norms, which change with every forward pass: parts of a batch add up exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_parts_of_a_batch_add_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realsr.models.gan_model.build_network", lambda opt: PlainDiscriminator())
    penalty = {"type": "r1", "weight": 1.0, "every": 1}
    results = []
    for steps in (1, 2):
        model = make("ESCRealGANModel", train={"accumulation_steps": steps, "gradient_penalty": penalty})
        # Plain descent: Adam's steps would hide a wrong scale.
        model.optimizers = []
        for letter in "gd":
            net = getattr(model, f"net_{letter}").double()
            setattr(model, f"optimizer_{letter}", torch.optim.SGD(net.parameters(), 0.1))
        model.net_g_ema.double()
        data = pair(0, 4)
        model.feed_data({**data, "lq": data["lq"].double(), "gt": data["gt"].double()})
        model.optimize_parameters(1)
        results.append((weights(model.net_g), weights(model.net_d), dict(model.get_current_log())))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-12)
    assert results[0][2] == pytest.approx(results[1][2], rel=1e-9)


def test_frozen_layers_stay(make: Make) -> None:
    model = make("ESCRealGANModel", train={"freeze": ["proj", "blocks.0"]})
    before = weights(model.net_g)
    for iteration in (1, 2):
        step(model, iteration, batch(iteration))
    for name, value in model.net_g.state_dict().items():
        frozen = name.startswith(("proj.", "blocks.0."))
        assert torch.equal(value, before[name]) == frozen, name
