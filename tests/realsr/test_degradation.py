"""The degradation by itself: chance, seeds, stages, devices and dtypes."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from lmlt_arch.options import read_degradation
from realsr.degradation import Degradation, DegradationSample
from realsr.degradation.filters import filter_images
from realsr.degradation.jpeg import diff_jpeg
from realsr.degradation.process import add_noise
from realsr.degradation.sampling import NoiseSample

BATCH, BATCHES = 12, 600


@pytest.fixture(scope="module")
def many(degradation: Degradation) -> list[DegradationSample]:
    generator = Generator().manual_seed(5)
    return [degradation.sample(BATCH, generator) for _ in range(BATCHES)]


def assert_share(happened: Iterable[bool], probability: float) -> None:
    """A share within four standard errors; fails by chance, were the seed not fixed, once in 16,000."""
    outcomes = [bool(value) for value in happened]
    error = math.sqrt(probability * (1 - probability) / len(outcomes))
    assert abs(sum(outcomes) / len(outcomes) - probability) < 4 * error


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    """All within the range, and no part of it rarer than another (Kolmogorov-Smirnov, 1 in 10,000)."""
    place = ((values.double() - low) / (high - low)).sort().values
    assert place[0] >= -1e-6 and place[-1] <= 1 + 1e-6
    expected = (torch.arange(len(place)) + 0.5) / len(place)
    assert (place - expected).abs().max() < 2.2 / math.sqrt(len(place))


def collect(many: list[DegradationSample], pick: Callable[[DegradationSample], Tensor]) -> Tensor:
    values = torch.cat([pick(sample).reshape(-1) for sample in many])
    return values[~values.isnan()]


def test_probabilities_of_the_batch(many: list[DegradationSample]) -> None:
    for name, shares in (("first", (0.2, 0.7, 0.1)), ("second", (0.3, 0.4, 0.3))):
        rounds = [getattr(sample, name) for sample in many]
        for direction, share in zip(("up", "down", "keep"), shares, strict=True):
            assert_share((r.resize.direction == direction for r in rounds), share)
        for mode in ("area", "bilinear", "bicubic"):
            assert_share((r.resize.mode == mode for r in rounds), 1 / 3)
        assert_share((r.noise.kind == "gaussian" for r in rounds), 0.5)
        assert_share((gray for r in rounds for gray in r.noise.gray), 0.4)
    assert all(sample.first.blurred for sample in many)
    assert_share((sample.second.blurred for sample in many), 0.8)
    assert_share((sample.sinc_first for sample in many), 0.5)
    assert_share((sample.last_mode == "area" for sample in many), 1 / 3)


def test_ranges(many: list[DegradationSample]) -> None:
    for name, ranges in (
        ("first", {"up": (1, 1.5), "down": (0.15, 1), "gaussian": (1, 30), "poisson": (0.05, 3)}),
        ("second", {"up": (1, 1.2), "down": (0.3, 1), "gaussian": (1, 25), "poisson": (0.05, 2.5)}),
    ):
        rounds = [getattr(sample, name) for sample in many]
        for direction in ("up", "down"):
            factors = [r.resize.factor for r in rounds if r.resize.direction == direction]
            assert_uniform(torch.tensor(factors), *ranges[direction])
        assert all(r.resize.factor == 1 for r in rounds if r.resize.direction == "keep")
        for kind in ("gaussian", "poisson"):
            strengths = [r.noise.strength for r in rounds if r.noise.kind == kind]
            assert_uniform(torch.cat(strengths), *ranges[kind])
        assert_uniform(torch.cat([r.quality for r in rounds]), 30, 95)


def test_kernels_are_drawn_as_asked_for(many: list[DegradationSample], official: dict[str, Any]) -> None:
    kinds, weights = (official["datasets"]["train"][key] for key in ("kernel_list", "kernel_prob"))
    for name, widest in (("first", 3), ("second", 1.5)):
        kernels = [getattr(sample, name).kernel for sample in many]
        drawn = [kind for kernel in kernels for kind in kernel.kinds]
        assert_share((kind == "sinc" for kind in drawn), 0.1)
        for kind, weight in zip(kinds, weights, strict=True):
            assert_share((value == kind for value in drawn), 0.9 * weight)
        assert_uniform(collect(many, lambda d, n=name: getattr(d, n).kernel.sigma_x), 0.2, widest)
        assert_uniform(collect(many, lambda d, n=name: getattr(d, n).kernel.sigma_y), 0.2, widest)
        assert_uniform(collect(many, lambda d, n=name: getattr(d, n).kernel.rotation), -math.pi, math.pi)
        sizes = Counter(torch.cat([kernel.size for kernel in kernels]).tolist())
        assert set(sizes) == set(range(7, 22, 2))
        assert max(sizes.values()) < 1.25 * min(sizes.values())
        for kernel in kernels:
            for i, kind in enumerate(kernel.kinds):
                assert kernel.sigma_x[i].isnan() == (kind == "sinc")
                assert kernel.sigma_y[i].isnan() == kernel.rotation[i].isnan() == ("aniso" not in kind)
                assert kernel.beta[i].isnan() == (kind in ("iso", "aniso", "sinc"))
                assert kernel.cutoff[i].isnan() == (kind != "sinc")
    first = [sample.first.kernel for sample in many]
    for start, low, high in (("generalized", 0.5, 4), ("plateau", 1, 2)):
        betas = torch.stack([k.beta[i] for k in first for i in range(BATCH) if k.kinds[i].startswith(start)])
        assert_share((betas < 1).tolist() if low < 1 else (betas == 1).tolist(), 0.5)
        assert_uniform(betas[betas > 1], 1, high)
    small = torch.stack([k.cutoff[i] for k in first for i in range(BATCH) if k.size[i] < 13])
    large = torch.stack([k.cutoff[i] for k in first for i in range(BATCH) if k.size[i] >= 13])
    assert_uniform(small[~small.isnan()], math.pi / 3, math.pi)
    assert_uniform(large[~large.isnan()], math.pi / 5, math.pi)


def test_final_sinc(many: list[DegradationSample]) -> None:
    assert_share((kind == "sinc" for sample in many for kind in sample.sinc.kinds), 0.8)
    assert_uniform(collect(many, lambda sample: sample.sinc.cutoff), math.pi / 3, math.pi)


def test_same_seed_same_batch_whatever_else_is_random(degradation: Degradation, photos: Tensor) -> None:
    state = torch.get_rng_state()
    first, drawn = degradation(photos, Generator().manual_seed(11))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    np.random.seed(99)
    second, _ = degradation(photos, Generator().manual_seed(11))
    assert torch.equal(first, second)
    assert torch.equal(degradation.apply(photos, drawn), first)
    other, _ = degradation(photos, Generator().manual_seed(12))
    assert not torch.equal(first, other)


def test_a_generator_restored_from_its_state_goes_on_alike(degradation: Degradation, photos: Tensor) -> None:
    generator = Generator().manual_seed(1)
    degradation(photos, generator)
    state = generator.get_state()
    expected, _ = degradation(photos, generator)
    resumed, _ = degradation(photos, Generator().set_state(state))
    assert torch.equal(resumed, expected)


def test_output_is_an_8_bit_image_of_the_right_size(degradation: Degradation, photos: Tensor) -> None:
    for seed in range(6):
        lq, _ = degradation(photos, Generator().manual_seed(seed))
        assert lq.shape == (3, 3, 35, 31)
        assert lq.dtype == torch.float32
        assert lq.min() >= 0 and lq.max() <= 1
        torch.testing.assert_close(lq * 255, (lq * 255).round(), rtol=0, atol=1e-4)


def test_stages_one_after_the_other(degradation: Degradation, photos: Tensor) -> None:
    for seed in range(8):
        sample = degradation.sample(3, Generator().manual_seed(seed))
        stages = degradation.stages(sample, *photos.shape[-2:])
        blur2 = ["blur2"] if sample.second.blurred else []
        finish = ["last_resize", "sinc"]
        finish = [*finish, "jpeg2"] if sample.sinc_first else ["jpeg2", *finish]
        names = ["blur1", "resize1", "noise1", "jpeg1", *blur2, "resize2", "noise2", *finish, "quantize"]
        assert [stage.name for stage in stages] == names
        images = photos
        for stage in stages:
            images = stage.apply(images)
            assert images.shape[:2] == photos.shape[:2], stage.name
        assert torch.equal(images, degradation.apply(photos, sample))


def test_images_of_a_batch_do_not_mix(degradation: Degradation, photos: Tensor) -> None:
    """With Gaussian noise; how many random numbers Poisson noise takes depends on all of the batch."""
    candidates = (degradation.sample(3, Generator().manual_seed(seed)) for seed in range(100))
    sample = next(d for d in candidates if d.first.noise.kind == d.second.noise.kind == "gaussian")
    changed = photos.clone()
    changed[1] = 0.5
    before, after = degradation.apply(photos, sample), degradation.apply(changed, sample)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_strength_of_noise(kind: str) -> None:
    strength = torch.tensor([2.0, 20.0] if kind == "gaussian" else [0.1, 1.0])
    flat = torch.full((2, 3, 128, 128), 128 / 255)
    noise = NoiseSample(kind=kind, strength=strength, gray=torch.tensor([False, True]), seed=3)
    spread = (add_noise(flat, noise) - flat).std((1, 2, 3))
    # One level makes a count of 128/255 on average, whose deviation is its root.
    expected = strength / 255 if kind == "gaussian" else strength * math.sqrt(128 / 255)
    if kind == "gaussian":
        torch.testing.assert_close(spread, expected, rtol=0.05, atol=0)
    else:
        torch.testing.assert_close(spread[0], expected[0], rtol=0.05, atol=0)
        assert spread[1] > 4 * spread[0]


def test_memory_format_autocast_and_precision_make_no_difference(
    degradation: Degradation, photos: Tensor
) -> None:
    sample = degradation.sample(3, Generator().manual_seed(2))
    expected = degradation.apply(photos, sample)
    assert torch.equal(
        degradation.apply(photos.contiguous(memory_format=torch.channels_last), sample), expected
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(degradation.apply(photos, sample), expected)
    with torch.inference_mode():
        assert torch.equal(degradation.apply(photos, sample), expected)


TF32_STATE = """
import torch
from realsr.degradation.precision import full_precision

products = torch.backends.cuda.matmul
{choose}
before = products.fp32_precision
try:
    with full_precision("cpu"):
        inside = products.fp32_precision
        raise OSError
except OSError:
    print(before, inside, products.fp32_precision)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="needs PyTorch 2.9")
@pytest.mark.parametrize(
    ("choose", "states"),
    [
        ("", "none none none"),
        ("torch.set_float32_matmul_precision('high')", "tf32 ieee tf32"),
        ("products.allow_tf32 = True", "tf32 ieee tf32"),
        ("products.fp32_precision = 'tf32'", "tf32 ieee tf32"),
        ("torch.backends.fp32_precision = 'tf32'", "tf32 ieee tf32"),
    ],
)
def test_products_of_tf32_are_off_for_the_while(repo_root: Path, choose: str, states: str) -> None:
    """However they were switched on; each in a fresh interpreter, as switches remember their use."""
    code = TF32_STATE.format(choose=choose)
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=repo_root, text=True).strip() == states


def test_double_precision(degradation: Degradation, photos: Tensor) -> None:
    sample = degradation.sample(3, Generator().manual_seed(2))
    stages = degradation.stages(sample, *photos.shape[-2:])
    for name in ("blur1", "resize1", "jpeg1", "sinc"):
        stage = next(stage for stage in stages if stage.name == name)
        exact = stage.apply(photos.double())
        assert exact.dtype == torch.float64
        assert ((stage.apply(photos) - exact).abs() < 1e-5).float().mean() > 0.99
    assert degradation.apply(photos.double(), sample).dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu(degradation: Degradation, photos: Tensor) -> None:
    """The same batch each time, and the CPU's results for the stages without noise."""
    on_gpu = photos.cuda()
    for seed in range(8):
        sample = degradation.sample(3, Generator().manual_seed(seed))
        lq = degradation.apply(on_gpu, sample)
        assert lq.is_cuda
        assert torch.equal(lq, degradation.apply(on_gpu, sample))
        for stage in degradation.stages(sample, *photos.shape[-2:]):
            if not stage.name.startswith("noise"):
                error = (stage.apply(on_gpu).cpu() - stage.apply(photos)).abs()
                assert (error < 1e-4).float().mean() > 0.99, stage.name


def test_jpeg_keeps_its_gradient_where_asked_for(photos: Tensor) -> None:
    with torch.inference_mode():
        diff_jpeg(photos, torch.full((3,), 60.0))
    images = photos.clone().requires_grad_()
    diff_jpeg(images, torch.full((3,), 60.0), differentiable=True).mean().backward()
    assert images.grad is not None and images.grad.abs().max() > 0


def test_jpeg_of_the_highest_quality_is_nearly_lossless(photos: Tensor) -> None:
    compressed = diff_jpeg(photos, torch.full((3,), 100.0), subsampling="4:4:4")
    assert (compressed - photos).abs().max() < 1e-3


def test_lower_quality_and_stronger_subsampling_cost_more(photos: Tensor) -> None:
    def loss(quality: float, subsampling: str) -> float:
        compressed = diff_jpeg(photos, torch.full((3,), quality), subsampling=subsampling)
        return float((compressed - photos).square().mean())

    assert loss(30, "4:2:0") > loss(60, "4:2:0") > loss(95, "4:2:0")
    assert loss(95, "4:2:0") > loss(95, "4:2:2") > loss(95, "4:4:4")


def test_filter_by_a_shifted_pulse_shifts(photos: Tensor) -> None:
    kernels = torch.zeros(3, 7, 7)
    kernels[0, 3, 3] = kernels[1, 3, 5] = kernels[2, 0, 3] = 1
    filtered = filter_images(photos, kernels)
    assert torch.equal(filtered[0], photos[0])
    assert torch.equal(filtered[1][..., :-2], photos[1][..., 2:])
    assert torch.equal(filtered[2][:, 3:], photos[2][:, :-3])


def test_the_smallest_image_survives_the_strongest_shrinking(official: dict[str, Any]) -> None:
    official["resize_prob"] = [0, 1, 0]
    official["resize_range"] = [0.15, 1]
    official["second_blur_prob"] = 1
    degradation = Degradation(read_degradation(official), scale=4)
    side = degradation.minimum_side
    assert side == 74
    for seed in range(12):
        lq, _ = degradation(torch.rand(1, 3, side, side), Generator().manual_seed(seed))
        assert lq.shape == (1, 3, 18, 18)
    with pytest.raises(ValueError, match=r"images of 74x73 are too small.*at least 74 pixels"):
        degradation(torch.rand(1, 3, 73, 74), Generator().manual_seed(0))


@pytest.mark.parametrize(
    "images", [torch.rand(1, 1, 80, 80), torch.zeros(1, 3, 80, 80).byte(), torch.rand(3, 80, 80).half()]
)
def test_other_shapes_and_dtypes_are_refused(degradation: Degradation, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"needs RGB of shape \(b, 3, h, w\) in float32"):
        degradation.apply(images, degradation.sample(len(images), Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="sample is for 2 images, but the batch has 1"):
        degradation.apply(torch.rand(1, 3, 80, 80), degradation.sample(2, Generator().manual_seed(0)))


def test_old_names_keep_working_with_a_warning(degradation: Degradation) -> None:
    import realsr.degradation

    with pytest.warns(DeprecationWarning, match="Draws is now realsr.degradation.DegradationSample"):
        assert realsr.degradation.Draws is DegradationSample
    with pytest.warns(DeprecationWarning, match="draw is now sample"):
        old = degradation.draw(2, Generator().manual_seed(0))
    new = degradation.sample(2, Generator().manual_seed(0))
    assert torch.equal(old.first.quality, new.first.quality)
    with pytest.raises(AttributeError, match="no attribute 'Drawings'"):
        _ = realsr.degradation.Drawings
