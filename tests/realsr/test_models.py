"""Both stages: pairs to train on, validation, resuming, and clear messages about mistakes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from helpers.small.stages import (
    GT_SIZE,
    IMAGE_SIZE,
    NETWORK,
    STAGES,
    assert_equal,
    batch,
    pair,
    stage_options,
    step,
    weights,
)
from torch import Generator, Tensor

from lmlt_arch.archs import ESCReal
from lmlt_arch.checkpoints.load import CheckpointError
from lmlt_arch.models.training_state import capture_rng
from lmlt_arch.options import read_degradation
from realsr.degradation import Degradation, sharpen

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("stage", "more"),
    [("ESCRealMSEModel", {"gt_usm": True}), ("ESCRealMSEModel", {"gt_usm": False}), ("ESCRealGANModel", {})],
)
def test_batches_are_degraded_cropped_and_pooled(make: Make, stage: str, more: dict[str, Any]) -> None:
    """The same pairs from the same numbers, put together by hand."""
    model = make(stage, **more)
    generator = Generator().manual_seed(3)
    degradation = Degradation(read_degradation(model.opt), scale=4)
    kept: list[tuple[Tensor, Tensor, str]] = []
    for seed in range(6):
        data = batch(seed)
        sharp = sharpen(data["gt"])
        target = sharp if more.get("gt_usm") else data["gt"]
        source = data["gt"] if more.get("gt_usm") is False else sharp
        lq, _ = degradation(source, generator)
        top, left = (int(torch.randint(13, (1,), generator=generator)) for _ in range(2))
        lq = lq[..., top : top + 8, left : left + 8]
        target = target[..., 4 * top : 4 * top + 32, 4 * left : 4 * left + 32]
        new = list(zip(lq, target, data["gt_path"], strict=True))
        if len(kept) < 4:
            kept += new
        else:
            places = torch.randperm(4, generator=generator)[:2].tolist()
            out = [kept[place] for place in places]
            for place, entry in zip(places, new, strict=True):
                kept[place] = entry
            new = out
        model.feed_data(data)
        assert torch.equal(model.lq, torch.stack([entry[0] for entry in new]))
        assert torch.equal(model.gt, torch.stack([entry[1] for entry in new]))
        assert model.files == [entry[2] for entry in new]
        if "GAN" in stage:
            assert torch.equal(model.gt_usm, sharpen(model.gt))
        assert torch.equal((model.lq * 255).round() / 255, model.lq)
        model.optimize_parameters(seed + 1)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_sampled(make: Make, stage: str) -> None:
    """By seed and rank; the global generators neither matter nor change."""
    drawn: list[Tensor] = []
    changes: tuple[dict[str, int], ...] = ({}, {}, {"rank": 1}, {"manual_seed": 4})
    for change in changes:
        model = make(stage, **change)
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(len(drawn))
        state = capture_rng()
        model.feed_data(batch(0))
        after = capture_rng()
        assert after["python"]["words"].equal(state["python"]["words"])
        assert after["numpy"]["key"].equal(state["numpy"]["key"])
        assert after["numpy"]["position"] == state["numpy"]["position"]
        assert after["torch"].equal(state["torch"])
        drawn.append(model.lq)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])
    # Rank 1 of seed 3 and rank 0 of seed 4 may be alike: two runs are never averaged.
    assert torch.equal(drawn[2], drawn[3])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("high_order", [True, False])
def test_pairs_of_ones_own(make: Make, stage: str, high_order: bool) -> None:
    model, data = make(stage, high_order_degradation=high_order), pair(0)
    model.feed_data(data)
    assert torch.equal(model.lq, data["lq"])
    assert torch.equal(model.gt, data["gt"])
    assert model.files == data["gt_path"]
    if "GAN" in stage:
        assert torch.equal(model.gt_usm, sharpen(data["gt"]))
    model.optimize_parameters(1)
    if not high_order:
        with pytest.raises(ValueError, match=r"training needs pairs.* /photos/0_0\.png has none"):
            model.feed_data(batch(0))


def test_pairs_need_no_degradation_options(make: Make, tmp_path: Path) -> None:
    opt = stage_options("ESCRealMSEModel", tmp_path, high_order_degradation=False)
    for key in ("resize_prob", "noise_range", "gt_size", "queue_size"):
        del opt[key]
    opt["datasets"] = {"train": {"batch_size_per_gpu": 2}}
    model = build_model(opt)
    step(model, 1, pair(0))


def seen_in_validation(model: Any, batches: list[dict[str, Any]]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """LQ, ground truth and output of each image, caught where the model upscales."""
    seen = []
    stock = model.test

    def test() -> None:
        stock()
        seen.append((model.lq.clone(), model.gt.clone(), model.output.clone()))

    model.test = test
    items = [{key: value[0] for key, value in batch.items()} for batch in batches]
    dataset = type("Dataset", (list,), {"opt": {"name": "photos", "phase": "val"}})(items)
    model.validation(torch.utils.data.DataLoader(dataset), 1, None, False)
    del model.test
    return seen


def val_image(name: str, height: int = 90, width: int = 103) -> dict[str, Any]:
    gt = batch(1, 1, 104)["gt"][..., :height, :width]
    return {"gt": gt, "gt_path": [name]}


def test_validation_degrades_always_alike(make: Make) -> None:
    images = [val_image("/a/one.png"), val_image("/a/two.png")]
    model = make("ESCRealGANModel")
    step(model, 1, batch(0))
    state = model.rank_state()
    first = seen_in_validation(model, images)
    after = model.rank_state()
    assert torch.equal(state["generator"], after["generator"])
    assert state["pool"]["files"] == after["pool"]["files"]
    assert torch.equal(state["rng"]["torch"], after["rng"]["torch"])
    for (lq, gt, output), image in zip(first, images, strict=True):
        assert torch.equal(gt, image["gt"][..., :88, :100])
        assert lq.shape == (1, 3, 22, 25)
        assert output.shape == gt.shape
        assert torch.equal((lq * 255).round() / 255, lq)
    assert not torch.equal(first[0][0], first[1][0])

    step(model, 2, batch(0))
    moved = [{**image, "gt_path": [image["gt_path"][0].replace("/a", "/b/c")]} for image in images]
    again = seen_in_validation(model, moved[::-1])[::-1]
    others = [
        seen_in_validation(make("ESCRealMSEModel", manual_seed=9), images),
        seen_in_validation(make("ESCRealMSEModel", is_train=False), images),
    ]
    for results in (again, *others):
        for mine, theirs in zip(first, results, strict=True):
            assert torch.equal(mine[0], theirs[0])
            assert torch.equal(mine[1], theirs[1])
    other_seed = make("ESCRealGANModel", val={"val_freq": 1, "save_img": False, "degradation_seed": 1})
    assert not torch.equal(seen_in_validation(other_seed, images)[0][0], first[0][0])
    # Training goes on as if there had been none.
    model.feed_data(batch(0))
    assert model.gt.shape[-1] == GT_SIZE


def test_validation_of_pairs_and_of_plain_photos(make: Make) -> None:
    model = make("ESCRealGANModel")
    lq, gt = torch.rand(1, 3, 13, 21), torch.rand(1, 3, 52, 84)
    data = {"lq": lq, "gt": gt, "lq_path": ["a.png"], "gt_path": ["a.png"]}
    ((seen, target, output),) = seen_in_validation(model, [data])
    assert torch.equal(seen, lq)
    assert torch.equal(target, gt)
    assert output.shape == gt.shape


def test_validation_images_that_cannot_be_degraded(make: Make) -> None:
    model = make("ESCRealMSEModel")
    with pytest.raises(ValueError, match=r"/a/tiny\.png: 103x70 pixels, but .* at least 76"):
        seen_in_validation(model, [val_image("/a/tiny.png", height=70)])
    tested = make("ESCRealMSEModel", is_train=False, datasets={})
    with pytest.raises(ValueError, match=r"/a/one\.png comes without an LQ .*datasets: train"):
        tested.feed_data(val_image("/a/one.png"))


@pytest.mark.parametrize("stage", STAGES)
def test_resumes_bit_for_bit(make: Make, tmp_path: Path, vgg: Path, stage: str) -> None:
    penalty = {"gradient_penalty": {"type": "wgan-gp", "weight": 1.0, "every": 1}} if "GAN" in stage else {}
    options = {"vgg": vgg if "GAN" in stage else None, "train": penalty}
    model = make(stage, **options)
    for iteration in range(1, 7):
        step(model, iteration, batch(iteration))
        if iteration == 3:
            model.save(0, 3)
    folder = tmp_path / "models"
    assert (folder / "net_d_3.pth").is_file() == ("GAN" in stage)
    starts = {f"pretrain_network_{n}": str(folder / f"net_{n}_3.pth") for n in ("g", "d")}
    state_file = tmp_path / "training_states" / "3.state"
    resumed = make(stage, **options, path={**starts, "resume_state": str(state_file)})
    state = torch.load(state_file, weights_only=True)
    assert len(state["optimizers"]) == len(state["schedulers"]) == (2 if "GAN" in stage else 1)
    resumed.resume_training(state)
    for iteration in range(4, 7):
        step(resumed, iteration, batch(iteration))
        if iteration == 4:
            assert resumed.files != batch(4)["gt_path"], "the pool was full"
    assert torch.equal(resumed.lq, model.lq)
    assert resumed.files == model.files
    for name in ("net_g", "net_g_ema", *(["net_d"] if "GAN" in stage else [])):
        assert_equal(weights(getattr(resumed, name)), weights(getattr(model, name)))


def test_resumes_with_another_pool(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    model = make("ESCRealMSEModel")
    for seed in range(3):
        model.feed_data(batch(seed))
    other = make("ESCRealMSEModel", queue_size=8)
    other.load_rank_state(model.rank_state())
    assert "filled again: a pool of 4 pairs cannot become one of 8" in caplog.text
    other.feed_data(batch(3))
    assert other.files == batch(3)["gt_path"]


@pytest.mark.parametrize("strict", [True, False])
def test_starts_from_an_official_checkpoint_or_another_scale(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, strict: bool
) -> None:
    arguments: dict[str, Any] = {key: value for key, value in NETWORK.items() if key != "type"}
    for scale in (2, 4):
        nets = [ESCReal(**{**arguments, "upscaling_factor": scale}).state_dict() for _ in range(2)]
        torch.save(dict(zip(("params", "params_ema"), nets, strict=True)), tmp_path / f"x{scale}.pth")
    start = {"param_key_g": "params_ema", "strict_load_g": strict}
    model = make("ESCRealMSEModel", path={**start, "pretrain_network_g": str(tmp_path / "x4.pth")})
    assert_equal(weights(model.net_g), torch.load(tmp_path / "x4.pth")["params_ema"])
    assert_equal(weights(model.net_g_ema), weights(model.net_g))
    other = {**start, "pretrain_network_g": str(tmp_path / "x2.pth")}
    if strict:
        with pytest.raises(CheckpointError, match="strict_load_g"):
            make("ESCRealMSEModel", path=other)
        return
    caplog.clear()
    model = make("ESCRealMSEModel", path=other)
    assert "starting fresh: to_img.1.weight" in caplog.text
    assert torch.equal(model.net_g.last.weight, torch.load(tmp_path / "x2.pth")["params_ema"]["last.weight"])
    # The average starts where the network does, in the fresh layers too.
    assert_equal(weights(model.net_g_ema), weights(model.net_g))


@pytest.mark.parametrize(
    ("stage", "change", "words"),
    [
        ("ESCRealMSEModel", {"queue_size": 5}, "queue_size: 5 must be a multiple of the batch, 2"),
        (
            "ESCRealMSEModel",
            {"gt_size": 30},
            "gt_size: must be a multiple of the scale, 4, such as 28; got 30",
        ),
        ("ESCRealMSEModel", {"gt_size": None}, "gt_size must be a multiple"),
        ("ESCRealMSEModel", {"jpeg_range": [95, 30]}, "jpeg_range: must be two numbers"),
        ("ESCRealGANModel", {"network_d": None}, "network_d"),
    ],
)
def test_mistakes(make: Make, stage: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(stage, **change)


@pytest.mark.parametrize("key", ["optim_d", "gan_opt"])
def test_stage_2_needs_its_sections(make: Make, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        make("ESCRealGANModel", train={key: None})


def test_images_smaller_than_the_crops(make: Make) -> None:
    model = make("ESCRealMSEModel", gt_size=IMAGE_SIZE + 4)
    with pytest.raises(ValueError, match=r"80x80 .*at least gt_size, 84"):
        model.feed_data(batch(0))
