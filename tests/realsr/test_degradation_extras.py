"""What goes beyond BasicSR: off unless asked for, and right when asked for."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.official_degradation import official_options
from PIL import Image
from torch import Generator, Tensor

from lmlt_arch.cli.degrade import DESCRIPTION
from lmlt_arch.options import OptionError, read_degradation
from realsr.degradation import Degradation
from realsr.degradation.camera import (
    CameraNoiseSample,
    add_camera_noise,
    add_halo,
    linear_to_srgb,
    srgb_to_linear,
)
from realsr.degradation.codecs import real_jpeg
from realsr.degradation.jpeg import diff_jpeg
from realsr.degradation.log import caption, rows
from realsr.degradation.options import EXTRA_RESIZE_MODES, ExtraOptions
from realsr.degradation.resize import resize_by, resize_to

EVERYTHING = {
    "jpeg_subsampling": ["4:4:4", "4:2:2"],
    "webp_prob": 0.5,
    "resize_modes": ["bicubic", *EXTRA_RESIZE_MODES],
    "camera_noise_prob": 0.5,
    "halo_prob": 0.5,
}


def with_extras(**extras: Any) -> Degradation:
    return Degradation(read_degradation(official_options() | {"degradation": extras}), scale=4)


def test_the_section_that_the_command_documents() -> None:
    """Its values, and the defaults that it names."""
    section = yaml.safe_load(DESCRIPTION[DESCRIPTION.index("  degradation:") :])["degradation"]
    assert set(section["resize_modes"]) == {"area", "bicubic", *EXTRA_RESIZE_MODES}
    extra = with_extras(**section).options.extra
    assert (extra.webp_prob, extra.camera_noise_prob, extra.halo_prob) == (0.2, 0.3, 0.2)
    for name, low, high in re.findall(r"(\w+_range): \[([\d.]+), ([\d.]+)\]", DESCRIPTION):
        assert getattr(ExtraOptions(), name) == (float(low), float(high))


def test_off_by_default(degradation: Degradation, photos: Tensor) -> None:
    for seed in range(20):
        sample = degradation.sample(3, Generator().manual_seed(seed))
        assert sample.camera is None and sample.halo is None
        assert sample.first.codec == sample.second.codec == "jpeg"
        assert sample.first.subsampling == "4:2:0"
        modes = {sample.first.resize.mode, sample.second.resize.mode, sample.last_mode}
        assert modes <= {"area", "bilinear", "bicubic"}
    assert read_degradation(official_options() | {"degradation": None}) == degradation.options


def test_noise_of_a_camera_and_halos_leave_the_rest_of_a_batch_alone(degradation: Degradation) -> None:
    both = with_extras(camera_noise_prob=1, halo_prob=1)
    plain_row = rows(degradation.sample(1, Generator().manual_seed(6)))[0]
    row = rows(both.sample(1, Generator().manual_seed(6)))[0]
    changed = {key for key in row if row[key] != plain_row[key]}
    assert changed == {"camera_shot", "camera_read", "halo_amount", "halo_sigma"}


@pytest.mark.parametrize(
    ("mode", "filter_"),
    [("lanczos", "LANCZOS"), ("bilinear_antialias", "BILINEAR"), ("bicubic_antialias", "BICUBIC")],
)
@pytest.mark.parametrize("size", [(41, 29), (175, 201)])
def test_antialiased_resizes(photos: Tensor, mode: str, filter_: str, size: tuple[int, int]) -> None:
    resized = resize_to(photos, size, mode)
    for image, actual in zip(photos.flatten(0, 1), resized.flatten(0, 1), strict=True):
        expected = Image.fromarray(image.numpy()).resize(size[::-1], Image.Resampling[filter_])
        np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", EXTRA_RESIZE_MODES)
def test_resize_by_a_factor(photos: Tensor, mode: str) -> None:
    assert resize_by(photos, 0.351, mode).shape == (3, 3, 49, 43)
    torch.testing.assert_close(resize_by(photos, 0.5, mode), resize_to(photos, (70, 62), mode))
    torch.testing.assert_close(resize_by(photos, 1.0, mode), photos, rtol=0, atol=1e-6)


def test_webp(photos: Tensor) -> None:
    degradation = with_extras(webp_prob=1, webp_range=[40, 60])
    sample = degradation.sample(3, Generator().manual_seed(1))
    assert sample.first.codec == sample.second.codec == "webp"
    assert sample.first.quality.min() >= 40 and sample.first.quality.max() <= 60
    stage = next(s for s in degradation.stages(sample, *photos.shape[-2:]) if s.name == "jpeg1")
    for image, quality, actual in zip(photos, sample.first.quality, stage.apply(photos), strict=True):
        buffer = io.BytesIO()
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(buffer, "WEBP", quality=round(float(quality)))
        expected = np.asarray(Image.open(buffer).convert("RGB"))
        assert np.array_equal((actual * 255).round().byte().permute(1, 2, 0).numpy(), expected)
    sometimes = with_extras(webp_prob=0.3)
    generator = Generator().manual_seed(2)
    codecs = [sometimes.sample(1, generator).second.codec for _ in range(400)]
    assert 85 < codecs.count("webp") < 155


def test_subsampling(photos: Tensor) -> None:
    degradation = with_extras(jpeg_subsampling=["4:4:4", "4:2:2"])
    generator = Generator().manual_seed(2)
    drawn = [degradation.sample(1, generator).first.subsampling for _ in range(200)]
    assert set(drawn) == {"4:4:4", "4:2:2"} and 65 < drawn.count("4:4:4") < 135
    quality = torch.full((3,), 90.0)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        ours, real = (f(photos, quality, subsampling=subsampling) for f in (diff_jpeg, real_jpeg))
        # libjpeg's table is not transposed and its chroma is interpolated; the images are close all the same.
        assert (ours - real).abs().mean() < (photos - real).abs().mean()
    sample = degradation.sample(3, Generator().manual_seed(0))
    stage = next(s for s in degradation.stages(sample, *photos.shape[-2:]) if s.name == "jpeg1")
    expected = diff_jpeg(photos, sample.first.quality, subsampling=sample.first.subsampling)
    assert torch.equal(stage.apply(photos), expected)


def test_noise_of_a_camera_grows_with_the_light() -> None:
    levels = torch.tensor([0.2, 0.5, 0.8])
    flat = levels[:, None, None, None].expand(3, 3, 96, 96)
    shot, read = torch.tensor([0.05, 0.05, 0.05]), torch.tensor([0.01, 0.01, 0.01])
    noisy = add_camera_noise(flat, CameraNoiseSample(shot=shot, read=read, seed=1))
    light = srgb_to_linear(noisy)
    expected = (shot**2 * srgb_to_linear(levels) + read**2).sqrt()
    torch.testing.assert_close(light.std((1, 2, 3)), expected, rtol=0.03, atol=0)
    torch.testing.assert_close(light.mean((1, 2, 3)), srgb_to_linear(levels), rtol=0.01, atol=0)


def test_sRGB_and_light() -> None:
    values = torch.linspace(0, 1, 1001, dtype=torch.float64)
    # The standard's two pieces meet to within 1e-7 or so.
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(values)), values, rtol=0, atol=1e-6)
    # Middle gray of 18% has the well-known value of 118.
    assert round(float(linear_to_srgb(torch.tensor(0.18))) * 255) == 118


def test_halos_overshoot_at_edges_only() -> None:
    degradation = with_extras(halo_prob=1)
    halo = degradation.sample(2, Generator().manual_seed(3)).halo
    assert halo is not None
    step = torch.full((2, 3, 40, 60), 0.3)
    step[..., 30:] = 0.7
    sharpened = add_halo(step, halo)
    assert (sharpened[..., 29] < 0.29).all() and (sharpened[..., 30] > 0.71).all()
    far = [*range(20), *range(40, 60)]
    torch.testing.assert_close(sharpened[..., far], step[..., far])


def test_shares_of_the_extras_for_each_image(photos: Tensor) -> None:
    degradation = with_extras(camera_noise_prob=0.25, halo_prob=0.5)
    sample = degradation.sample(2000, Generator().manual_seed(4))
    camera, halo = sample.camera, sample.halo
    assert camera is not None and halo is not None
    assert 420 < (camera.shot > 0).sum() < 580
    assert torch.equal(camera.shot > 0, camera.read > 0)
    assert camera.shot[camera.shot > 0].min() >= 0.01 and camera.shot.max() <= 0.1
    assert 900 < (halo.amount > 0).sum() < 1100
    assert halo.amount[halo.amount > 0].min() >= 0.5 and halo.amount.max() <= 2
    few = degradation.sample(3, Generator().manual_seed(8))
    assert few.camera is not None and few.halo is not None
    untouched = few.camera.shot == 0
    assert 0 < untouched.sum() < 3
    changed = (add_camera_noise(photos, few.camera) != photos).flatten(1).any(1)
    assert torch.equal(changed, ~untouched)


def test_each_image_has_its_own_row() -> None:
    sample = with_extras(camera_noise_prob=1, halo_prob=1).sample(3, Generator().manual_seed(5))
    assert sample.camera is not None and sample.halo is not None
    for name, values in (
        ("blur1_size", sample.first.kernel.size),
        ("noise1_strength", sample.first.noise.strength),
        ("jpeg1_quality", sample.first.quality),
        ("jpeg2_quality", sample.second.quality),
        ("camera_read", sample.camera.read),
        ("halo_amount", sample.halo.amount),
        ("halo_sigma", sample.halo.kernel.sigma_x),
    ):
        assert [row[name] for row in rows(sample)] == values.tolist(), name


def test_everything_at_once() -> None:
    degradation = with_extras(**EVERYTHING)
    side = degradation.minimum_side
    gt = torch.rand(2, 3, side, side)
    seen = set()
    for seed in range(16):
        lq, sample = degradation(gt, Generator().manual_seed(seed))
        assert lq.shape == (2, 3, side // 4, side // 4)
        assert torch.equal(lq, degradation.apply(gt, sample))
        for row in rows(sample):
            lines = caption(row)
            assert len(lines) == 9 + (row["camera_shot"] != "") + (row["halo_amount"] != "")
            seen |= {line.split()[0] for line in lines}
    assert {"camera", "halo", "webp1", "webp2", "jpeg1", "jpeg2"} <= seen


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"resize_modes": ["lanzcos"]}, r"resize_modes\[0\]: must be one of .*did you mean 'lanczos'"),
        ({"jpeg_subsampling": "4:2:0"}, "jpeg_subsampling: must be a list"),
        ({"webp_prob": 2}, "degradation: webp_prob: must be at most 1; got 2"),
        ({"halo_sigma_range": [0, 1]}, "degradation: halo_sigma_range: must be above 0"),
        ({"halo_probability": 0.1}, "degradation: unknown key 'halo_probability'; did you mean 'halo_prob'"),
    ],
)
def test_wrong_extras(extras: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        with_extras(**extras)
