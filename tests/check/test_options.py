"""`lmlt check`: what it finds in deliberately broken option files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.check_command import REMOVED, Write, check, findings, put

from lmlt_arch.cli import main

# (place, value, what is said of it)
PAIRED_OPTIONS: list[tuple[str, Any, str]] = [
    ("train:grad_clp", 0.1, "train: unknown key 'grad_clp'; did you mean 'grad_clip'?"),
    ("modl_type", "LMLTModel", "unknown key 'modl_type'; did you mean 'model_type'?"),
    ("name", REMOVED, "name: is missing"),
    ("model_type", "LMLTModle", "model_type: unknown model 'LMLTModle'; did you mean 'LMLTModel'?"),
    ("scale", 3, "scale is 3, but network_g: upscaling_factor is 2; they must be equal"),
    ("scale", "two", "scale: must be a whole number; got 'two'"),
    ("num_gpu", -1, "num_gpu: must be auto or a number of GPUs, 0 for the CPU; got -1"),
    ("network_g:dmi", 12, "network_g: unknown key 'dmi'; did you mean 'dim'?"),
    ("network_g:dim", 13, "network_g: cannot be built"),
    ("network_g:dim", "wide", "network_g: cannot be built"),
    ("network_g:type", "LTML", "network_g: type: unknown type 'LTML'; did you mean 'LMLT'?"),
    ("train:total_iter", "5e3", "train: total_iter: is '5e3': YAML read it as text; write 5000"),
    ("train:total_iter", 0, "train: total_iter: must be at least 1; got 0"),
    ("train:ema_decay", 1.5, "train: ema_decay: must be below 1; got 1.5"),
    ("train:amp", "bf61", "train: amp: must be one of bf16, fp16 (did you mean 'bf16'?)"),
    ("train:channels_last", "yes please", "train: channels_last: must be true or false"),
    ("train:optim_g", {"type": "Adam"}, "train: optim_g: lr: is missing"),
    ("train:optim_g:lr", -1.0, "train: optim_g: lr: must be at least 0; got -1.0"),
    (
        "train:optim_g",
        {"type": "Adam", "lr": 1e-3, "fused": True, "foreach": True},
        "`fused` and `foreach` cannot be `True` together",
    ),
    ("train:scheduler:milestones", [3, 2], "milestones: must increase from one to the next; got [3, 2]"),
    (
        "train:scheduler",
        {"type": "CosineAnnealingRestartLR", "periods": [2, 2], "restart_weights": [1]},
        "train: scheduler: cannot be built: periods and restart_weights should have the same length",
    ),
    (
        "train:scheduler",
        {"type": "CosineAnnealingRestartLR", "periods": [3]},
        "train: scheduler: periods: add up to 3, but total_iter is 4",
    ),
    ("train:checkpointing", "on", "train: checkpointing: must be true or false"),
    ("train:accumulation_steps", 3, "3 does not divide batch_size_per_gpu, 2: take one of 1, 2"),
    ("train:pixel_opt", None, "train: 'pixel_opt' or 'perceptual_opt' is missing"),
    ("train:pixel_opt:reduction", "median", "train: pixel_opt: cannot be built: Unsupported reduction"),
    ("train:gan_opt", {"type": "GANLoss", "gan_type": "vanilla"}, "train: gan_opt: is not read by LMLTModel"),
    ("train:freeze", ["too_feat"], "no parameter of network_g is called 'too_feat'; did you mean 'to_feat'?"),
    ("gt_size", 64, "gt_size: is not read by LMLTModel: remove it, or take model_type: ESCRealMSEModel"),
    ("datasets:train:gt_size", 33, "gt_size: must be a multiple of the scale, 2, such as 32; got 33"),
    ("datasets:train:use_flip", True, "datasets: train: unknown key 'use_flip'; did you mean 'use_hflip'?"),
    ("datasets:train:gt_size", REMOVED, "datasets: train: gt_size: is missing"),
    ("datasets:train:type", "PairedImageDatset", "did you mean 'PairedImageDataset'?"),
    ("datasets:train:persistent_workers", True, "num_worker_per_gpu is 0: remove it"),
    ("datasets:train:io_backend:type", "lmdb", "write io_backend: type: disk"),
    ("datasets:test", {"name": "x", "type": "HQImageDataset", "dataroot_gt": "x"}, "is called train, val"),
    (
        "val:metrics:psnr:type",
        "calculate_pnsr",
        "unknown type 'calculate_pnsr'; did you mean 'calculate_psnr'",
    ),
    ("val:val_freq", REMOVED, "val: val_freq: is missing"),
    ("logger:wandb", {"project": "x"}, "logger: wandb: needs use_tb_logger: true"),
    ("tile", {"tile_size": 0, "tile_pad": 8}, "tile: tile_size: must be at least 1; got 0"),
    ("path:pretrain_network_g", "absent.pth", "path: pretrain_network_g: there is no file absent.pth"),
]


REAL_OPTIONS: list[tuple[str, Any, str]] = [
    ("jpeg_range", [95, 30], "jpeg_range: must be two numbers, the smaller first"),
    ("jpeg_range", REMOVED, "jpeg_range: is missing"),
    ("resize_prob", [0.5, 0.5], "resize_prob: needs 3 numbers, one for each of up, down, keep; got 2"),
    ("datasets:train:blur_kernel_size", 20, "blur_kernel_size: must be odd, such as 21; got 20"),
    ("datasets:train:kernel_prob", [1.0], "kernel_prob: needs 6 numbers, one for each of kernel_list; got 1"),
    ("degradation", {"jpeg_backnd": "real"}, "degradation: unknown key 'jpeg_backnd'; did you mean"),
    ("queue_size", 5, "queue_size: 5 must be a multiple of the batch, 2, such as 6"),
    ("gt_size", 128, "gt_size: 128 is more than what is cut out of the photos, 96"),
    ("gt_size", REMOVED, "gt_size: is missing"),
    ("model_type", "ESCRealGANModel", "network_d: is missing"),
]


@pytest.mark.parametrize(("place", "value", "message"), PAIRED_OPTIONS)
def test_broken_options(
    paired: dict[str, Any],
    write: Write,
    capsys: pytest.CaptureFixture[str],
    place: str,
    value: Any,
    message: str,
) -> None:
    put(paired, place, value)
    path = write(paired)
    found = [line for line in findings(path, capsys) if message in line]
    assert found
    assert all(line.startswith(str(path)) for line in found)


@pytest.mark.parametrize(("place", "value", "message"), REAL_OPTIONS)
def test_broken_options_of_real_world_models(
    photos: dict[str, Any],
    write: Write,
    capsys: pytest.CaptureFixture[str],
    place: str,
    value: Any,
    message: str,
) -> None:
    put(photos, place, value)
    found = [line for line in findings(write(photos), capsys) if message in line]
    assert len(found) == 1


def test_crop_too_small_for_the_degradation(
    photos: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    photos["gt_size"] = 32
    photos["datasets"]["train"]["crop_pad_size"] = 64
    (found,) = findings(write(photos), capsys)
    assert "crop_pad_size: 64 is too small: this degradation needs at least 76 pixels" in found


def test_all_mistakes_at_once_in_the_order_of_lines(
    paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, value in (("logger:print_frq", 1), ("train:amp", "fp8"), ("scale", 0)):
        put(paired, place, value)
    path = write(paired)
    text = path.read_text().splitlines()
    found = findings(path, capsys)
    lines = [int(line.removeprefix(f"{path}:").partition(":")[0]) for line in found]
    assert lines == sorted(lines)
    keys = [text[number - 1].strip().partition(":")[0] for number in lines]
    assert keys == ["scale", "amp", "print_frq"]


def test_keys_that_training_completes(
    paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """BasicSR has no default for flips; trainings of our models get one, and so does the first batch."""
    for key in ("use_hflip", "use_rot"):
        put(paired, f"datasets:train:{key}", REMOVED)
    assert main(["check", "-opt", str(write(paired)), "--no-timing"]) == 0, capsys.readouterr().out


def test_keys_twice(paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(paired)
    path.write_text(path.read_text() + "scale: 4\n")
    found = findings(path, capsys)
    assert any("scale: stands here twice, in lines 3 and" in line for line in found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1\nb: 2\n", "is no YAML"),
        ("- 1\n", "must hold keys and values"),
        ("", "must hold keys and values"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_no_option_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    path = tmp_path / "options.yml"
    if content is None:
        assert check(path) == 2
        (found,) = capsys.readouterr().err.splitlines()
    else:
        path.write_text(content)
        (found,) = findings(path, capsys)
    assert str(path) in found
    assert message in found


@pytest.mark.parametrize("template", ["{", "x4", "{0.a}", "{:>99999999999}"])
def test_templates_that_are_none(
    paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str], template: str
) -> None:
    paired["datasets"]["train"]["filename_tmpl"] = template
    (found,) = findings(write(paired), capsys)
    assert f"datasets: train: filename_tmpl: {template!r} must hold {{}}" in found


@pytest.mark.parametrize(
    ("kind", "border", "fits"), [("psnr", 18, True), ("psnr", 24, False), ("ssim", 18, False)]
)
def test_borders_that_leave_nothing(
    paired: dict[str, Any],
    write: Write,
    kind: str,
    border: int,
    fits: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paired["val"]["metrics"] = {"m": {"type": f"calculate_{kind}", "crop_border": border}}
    if fits:
        assert check(write(paired)) == 0
        return
    found = findings(write(paired), capsys)
    assert all("val: metrics: m: " in text and "lower crop_border" in text for text in found)
    assert found


def test_numbers_as_text_are_taken_where_they_can_be(
    paired: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    paired["train"]["optim_g"]["lr"] = "5e-4"
    paired["train"]["grad_clip"] = "1e0"
    path = write(paired)
    assert isinstance(yaml.safe_load(path.read_text())["train"]["grad_clip"], str)
    assert check(path) == 0
