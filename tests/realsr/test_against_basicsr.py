"""Equality with BasicSR's own functions for equal sampled parameters, stage by stage and as a whole."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import degradations as basicsr_degradations
from basicsr.models import realesrgan_model
from basicsr.models.realesrgan_model import RealESRGANModel
from basicsr.utils import DiffJPEG, USMSharp
from basicsr.utils.img_process_util import filter2D
from helpers.official_degradation import KINDS, official_options
from torch import Generator, Tensor

from lmlt_arch.options import read_degradation
from realsr.degradation import Degradation, DegradationSample, sharpen
from realsr.degradation.filters import filter_images, gaussian_blur
from realsr.degradation.jpeg import diff_jpeg
from realsr.degradation.kernels import KernelSample, build_kernels
from realsr.degradation.noise import gaussian_noise, poisson_noise
from realsr.degradation.sampling import NoiseSample


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def basicsr_kernel(sample: KernelSample, index: int) -> np.ndarray[Any, Any]:
    kind, size = sample.kinds[index], int(sample.size[index])
    if kind == "none":
        kernel = np.ones((1, 1))
    elif kind == "sinc":
        kernel = basicsr_degradations.circular_lowpass_kernel(float(sample.cutoff[index]), size, pad_to=False)
    else:
        name = {"g": "generalized_Gaussian", "p": "plateau"}.get(kind[0], "Gaussian")
        shape = {} if name == "Gaussian" else {"beta": float(sample.beta[index])}
        kernel = getattr(basicsr_degradations, f"bivariate_{name}")(
            size,
            float(sample.sigma_x[index]),
            float(sample.sigma_y[index]),
            float(sample.rotation[index]),
            isotropic=not kind.endswith("aniso"),
            **shape,
        )
    return np.pad(kernel, (sample.canvas - len(kernel)) // 2)


def test_kernels(degradation: Degradation) -> None:
    sample = degradation.sample(300, seeded(1))
    for part in (sample.first.kernel, sample.second.kernel, sample.sinc):
        expected = np.stack([basicsr_kernel(part, i) for i in range(300)])
        actual = build_kernels(part).numpy()
        is_sinc = np.array([kind == "sinc" for kind in part.kinds])
        np.testing.assert_allclose(actual[~is_sinc], expected[~is_sinc], rtol=0, atol=1e-12)
        # torch's Bessel function is right to 5e-7 only, also in float64.
        np.testing.assert_allclose(actual[is_sinc], expected[is_sinc], rtol=0, atol=5e-7)
    assert set(sample.first.kernel.kinds) == {*KINDS, "sinc"}
    assert set(sample.sinc.kinds) == {"sinc", "none"}


def test_filter(degradation: Degradation, photos: Tensor) -> None:
    kernels = build_kernels(degradation.sample(3, seeded(2)).first.kernel).float()
    torch.testing.assert_close(filter_images(photos, kernels), filter2D(photos, kernels), rtol=0, atol=1e-6)
    one = filter_images(photos[:1], kernels[:1])
    torch.testing.assert_close(one, filter2D(photos[:1], kernels[:1]), rtol=0, atol=1e-6)


def test_sharpening(photos: Tensor) -> None:
    sharpener = USMSharp()
    blurred = filter2D(photos, sharpener.kernel)
    torch.testing.assert_close(gaussian_blur(photos), blurred, rtol=0, atol=4e-6)
    # Detail within rounding errors of the threshold may fall on either side of it.
    difference = (sharpen(photos) - sharpener(photos)).abs()
    assert (difference > 4e-6).float().mean() < 0.02
    assert difference.max() < 1e-3
    assert (sharpen(photos) - photos).abs().max() > 0.1


@pytest.mark.parametrize("gray", [(0, 0, 0), (1, 0, 1), (1, 1, 1)])
def test_noise(photos: Tensor, gray: tuple[int, ...]) -> None:
    is_gray, strength = torch.tensor(gray, dtype=torch.bool), torch.tensor([3.0, 12.5, 25.0])
    for ours, theirs in (
        (gaussian_noise, basicsr_degradations.generate_gaussian_noise_pt),
        (poisson_noise, basicsr_degradations.generate_poisson_noise_pt),
    ):
        torch.manual_seed(7)
        expected = theirs(photos, strength, is_gray.float())
        noise = ours(photos, strength, is_gray, generator=seeded(7))
        torch.testing.assert_close(noise, expected, rtol=0, atol=1e-6)
        same_channels = [bool((image[0] == image[1]).all()) for image in noise]
        assert same_channels == is_gray.tolist()


def test_poisson_noise_counts_the_levels_of_each_image() -> None:
    for levels in (1, 2, 3, 4, 5, 128, 129, 256):
        ramp = torch.arange(levels).float().div(255).repeat(3, 16, 1)[None].clone()
        torch.manual_seed(levels)
        expected = basicsr_degradations.generate_poisson_noise_pt(ramp, 1.0)
        noise = poisson_noise(ramp, torch.ones(1), torch.zeros(1, dtype=torch.bool), generator=seeded(levels))
        torch.testing.assert_close(noise, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("differentiable", [False, True])
def test_jpeg(photos: Tensor, differentiable: bool) -> None:
    quality = torch.tensor([31.0, 49.9, 94.5])
    # DiffJPEG turns the qualities it is given into factors, in place.
    expected = DiffJPEG(differentiable=differentiable)(photos, quality=quality.clone())
    actual = diff_jpeg(photos, quality, differentiable=differentiable)
    # Where a coefficient lies halfway between two steps, rounding errors decide: a whole block differs.
    assert ((actual - expected).abs() > 1e-5).float().mean() < 0.005
    assert (actual - photos).abs().mean() > 0.005


class ScriptedChance:
    """Stands for `random` and `np.random` in BasicSR's model: hands out what we drew, in BasicSR's order."""

    def __init__(self, sample: DegradationSample, opt: dict[str, Any]) -> None:
        self.uniforms: Iterator[float] = iter(self._uniforms(sample))
        self.choices_made = iter([sample.first.resize.direction, sample.second.resize.direction])
        self.modes = iter([sample.first.resize.mode, sample.second.resize.mode, sample.last_mode])
        self.opt = opt

    @staticmethod
    def _uniforms(sample: DegradationSample) -> list[float]:
        """Numbers below a probability for yes, 1 for no; factors as they are; none for keeping the size."""
        first, second = sample.first, sample.second
        return [
            *([] if first.resize.direction == "keep" else [first.resize.factor]),
            -1.0 if first.noise.kind == "gaussian" else 1.0,
            -1.0 if second.blurred else 1.0,
            *([] if second.resize.direction == "keep" else [second.resize.factor]),
            -1.0 if second.noise.kind == "gaussian" else 1.0,
            0.0 if sample.sinc_first else 1.0,
        ]

    def uniform(self, low: float = 0, high: float = 1) -> float:
        value = next(self.uniforms)
        assert (low, high) == (0, 1) or low <= value <= high
        return value

    def choices(self, names: list[str], weights: list[float]) -> list[str]:
        assert names == ["up", "down", "keep"]
        assert weights in (self.opt["resize_prob"], self.opt["resize_prob2"])
        return [next(self.choices_made)]

    def choice(self, names: list[str]) -> str:
        assert names == ["area", "bilinear", "bicubic"]
        return next(self.modes)


def basicsr_lq(gt: Tensor, sample: DegradationSample, patch: pytest.MonkeyPatch) -> Tensor:
    """LQ by BasicSR's own `feed_data`, its chance replaced by our sample, without exact sharpening."""
    opt = official_options() | {"gt_size": gt.shape[-1]}
    chance = ScriptedChance(sample, opt)
    noises, qualities = (iter([getattr(sample.first, name), getattr(sample.second, name)]) for name in PARTS)
    jpeg = DiffJPEG(differentiable=False)

    def scripted_noise(name: str) -> Any:
        def add(images: Tensor, **options: Any) -> Tensor:
            noise: NoiseSample = next(noises)
            assert noise.kind == name
            torch.manual_seed(noise.seed)
            function = getattr(basicsr_degradations, f"add_{name}_noise_pt")
            strength, gray = noise.strength, noise.gray.float()
            return function(images, strength, gray_noise=gray, clip=options["clip"], rounds=options["rounds"])

        return add

    patch.setattr(realesrgan_model, "random", chance)
    patch.setattr(realesrgan_model, "np", SimpleNamespace(random=chance))
    for name in ("gaussian", "poisson"):
        patch.setattr(realesrgan_model, f"random_add_{name}_noise_pt", scripted_noise(name))
    model = object.__new__(RealESRGANModel)
    model.opt, model.is_train, model.device = opt, True, torch.device("cpu")
    model.usm_sharpener = lambda images: images
    model.jpeger = lambda images, quality: jpeg(images, quality=next(qualities).clone())
    model._dequeue_and_enqueue = lambda: None
    parts = {"kernel1": sample.first.kernel, "kernel2": sample.second.kernel, "sinc_kernel": sample.sinc}
    model.feed_data({"gt": gt, **{name: build_kernels(part).float() for name, part in parts.items()}})
    assert next(chance.uniforms, None) is next(chance.modes, None) is None
    lq: Tensor = model.lq
    return lq


PARTS = ("noise", "quality")


def test_whole_chain(degradation: Degradation, photos: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    gt = photos[..., :124, :124]
    seen, equal = set(), 0
    for seed in range(16):
        sample = degradation.sample(3, seeded(seed))
        with monkeypatch.context() as patch:
            expected = basicsr_lq(gt, sample, patch)
        actual = degradation.apply(gt, sample)
        assert actual.shape == (3, 3, 31, 31)
        # Where rounding errors differ, a coefficient on the edge of two JPEG steps changes its whole block.
        difference = (actual - expected).abs() * 255
        equal += not difference.any()
        assert (difference > 0.5).float().mean() < 0.02, seed
        assert difference.mean() < 0.1, seed
        seen |= {
            sample.sinc_first,
            sample.second.blurred,
            sample.first.noise.kind,
            sample.first.resize.direction,
        }
    assert equal > 8
    assert seen == {True, False, "gaussian", "poisson", "up", "down", "keep"}


def test_distribution_of_kernels_is_that_of_basicsr(degradation: Degradation) -> None:
    """Means and spreads of the middle and of the widths, from BasicSR's own drawing."""
    options = degradation.options.first.kernel
    random.seed(3)
    np.random.seed(3)
    theirs = []
    for _ in range(1500):
        size = random.choice(range(7, 22, 2))
        kernel = basicsr_degradations.random_mixed_kernels(
            options.kernel_list,
            options.kernel_prob,
            size,
            options.blur_sigma,
            options.blur_sigma,
            [-math.pi, math.pi],
            options.betag_range,
            options.betap_range,
        )
        theirs.append(np.pad(kernel, (21 - size) // 2))
    no_sinc = official_options()
    no_sinc["datasets"]["train"]["sinc_prob"] = 0
    drawn = Degradation(read_degradation(no_sinc), scale=4).sample(1500, seeded(3))
    ours = build_kernels(drawn.first.kernel).numpy()
    offset = np.arange(-10, 11)
    for measure in (
        lambda k: k[:, 10, 10],
        lambda k: (k.sum(1) * offset**2).sum(1),
        lambda k: (k.sum(2) * offset**2).sum(1),
        lambda k: np.einsum("bij,i,j->b", k, offset, offset),
    ):
        a, b = measure(ours), measure(np.stack(theirs))
        error = math.sqrt((a.var() + b.var()) / 1500)
        assert abs(a.mean() - b.mean()) < 4 * error
        assert 0.85 < a.std() / b.std() < 1.18


def test_real_jpeg_is_what_opencv_writes(official: dict[str, Any], photos: Tensor) -> None:
    official["degradation"] = {"jpeg_backend": "real"}
    degradation = Degradation(read_degradation(official), scale=4)
    sample = degradation.sample(3, seeded(0))
    stage = {s.name: s for s in degradation.stages(sample, 140, 124)}["jpeg1"]
    for image, quality, actual in zip(photos, sample.first.quality, stage.apply(photos), strict=True):
        bgr = (image.permute(1, 2, 0).flip(-1) * 255).round().byte().numpy()
        flags = [cv2.IMWRITE_JPEG_QUALITY, round(float(quality))]
        expected = cv2.imdecode(cv2.imencode(".jpg", bgr, flags)[1], cv2.IMREAD_COLOR)
        decoded = (actual.permute(1, 2, 0).flip(-1) * 255).round().byte().numpy()
        assert np.abs(decoded.astype(int) - expected.astype(int)).mean() < 0.2
