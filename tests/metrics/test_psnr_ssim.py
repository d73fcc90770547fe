"""PSNR and SSIM on the device against BasicSR's own, on photographs and on noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
from torch import Tensor

from lmlt_arch.metrics import psnr, ssim

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    photo = skimage.data.astronaut()[40:161, 60:157]
    noisy = np.clip(photo + rng.normal(0, 12, photo.shape), 0, 255).round().astype(np.uint8)
    slightly = photo.copy()
    slightly[60, 50, 1] ^= 1
    noise = rng.integers(0, 256, (2, 33, 47, 3), dtype=np.uint8)
    flat = np.full((40, 40, 3), 255, np.uint8)
    return {
        "noisy": (noisy, photo),
        "one bit": (slightly, photo),
        "unrelated": (noise[0], noise[1]),
        "flat": (flat, flat - 1),
    }


def tensor(image: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("luma", [False, True])
@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("name", pairs())
def test_equal_to_basicsr(name: str, border: int, luma: bool, device: str) -> None:
    image, gt = pairs()[name]
    how: dict[str, Any] = {"crop_border": border, "test_y_channel": luma}
    measures: list[tuple[Callable[..., Any], Callable[..., Tensor], float]] = [
        (calculate_psnr, psnr, 1e-4),
        (calculate_ssim, ssim, 1e-6),
    ]
    for stock, ours, tolerance in measures:
        expected = stock(img=image[..., ::-1], img2=gt[..., ::-1], **how)
        value = ours(tensor(image, device), tensor(gt, device), **how)
        assert value.shape == (1,)
        assert value.item() == pytest.approx(expected, abs=tolerance)


def test_batches_and_gray_images() -> None:
    image, gt = pairs()["noisy"]
    flipped, flipped_gt = image[::-1], gt[:, ::-1]
    batch = [torch.cat([tensor(a, "cpu"), tensor(b, "cpu")]) for a, b in ((image, flipped), (gt, flipped_gt))]
    for measure in (psnr, ssim):
        alone = [
            measure(tensor(image, "cpu"), tensor(gt, "cpu")),
            measure(tensor(flipped, "cpu"), tensor(flipped_gt, "cpu")),
        ]
        torch.testing.assert_close(measure(*batch), torch.cat(alone))
    gray = [batch_[:1, :1] for batch_ in batch]
    expected = calculate_psnr(img=image[..., :1], img2=gt[..., :1], crop_border=2, test_y_channel=True)
    assert psnr(*gray, crop_border=2, test_y_channel=True).item() == pytest.approx(expected, abs=1e-4)


def test_equal_images() -> None:
    image = tensor(pairs()["noisy"][0], "cpu")
    assert math.isinf(psnr(image, image).item())
    assert ssim(image, image).item() == pytest.approx(1)


def test_sizes_that_cannot_be_compared() -> None:
    image = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    with pytest.raises(ValueError, match="the images are 20x20, their ground truth is 20x19"):
        psnr(image, image[..., :19, :])
    with pytest.raises(ValueError, match="nothing of 20x20 pixels is left inside a border of 10"):
        psnr(image, image, crop_border=10)
    with pytest.raises(ValueError, match="SSIM needs 11 x 11 pixels; 10x10 are left"):
        ssim(image, image, crop_border=5)
