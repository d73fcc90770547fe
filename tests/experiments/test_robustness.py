"""Degradations against plain references, and a planted network that undoes one of them exactly."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.experiment_programs import program
from helpers.small.evaluations import checkpoint, photo, save
from PIL import Image

from common.degradations import (
    RESIZERS,
    Corruption,
    Shrinking,
    corrupt,
    gaussian_kernel,
    motion_kernel,
    shrink,
)
from lmlt_arch.data.imresize import imresize
from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.benchmark.datasets import find_dataset
from robustness import HIGHEST_PSNR, NamedUpscaler, load_upscalers, make_conditions, run_robustness


def moments(kernel: torch.Tensor, angle: float) -> tuple[float, float]:
    """Variances of a kernel along a direction and across it, in pixels squared."""
    axis = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return float((kernel * along**2).sum()), float((kernel * across**2).sum())


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0])
def test_kernels(angle: float) -> None:
    blur = gaussian_kernel(2.4, aspect=1 / 3, angle=angle)
    assert blur.sum() == pytest.approx(1)
    # Cut off at three standard deviations, it is a little narrower.
    assert moments(blur, angle) == pytest.approx((2.4**2, 0.8**2), rel=0.05)
    # A straight path has the variance L^2 / 12; dealing points to pixels adds at most 1/4 in each direction.
    path = motion_kernel(9, angle=angle)
    assert path.sum() == pytest.approx(1)
    along, across = moments(path, angle)
    assert 81 / 12 - 0.01 <= along <= 81 / 12 + 0.3
    assert across <= 0.3


def test_a_whole_motion_along_the_rows() -> None:
    kernel = motion_kernel(3)
    middle = kernel[kernel.shape[0] // 2]
    assert middle.sum() == pytest.approx(1)
    # By hand: a path of 3 pixels covers one pixel wholly at the middle, fading by triangles at its ends.
    assert middle.tolist() == pytest.approx([0, 1 / 24, 7 / 24, 1 / 3, 7 / 24, 1 / 24, 0], abs=1e-3)


def test_shrinking_against_opencv_and_by_hand() -> None:
    gt = photo(96, 64)
    image = gt.astype(np.float64) / 255

    def shrunk(shrinking: Shrinking) -> np.ndarray:
        return shrink(gt, shrinking, 4)[0].permute(1, 2, 0).numpy()

    kernel = motion_kernel(7, angle=30)
    blurred = cv2.filter2D(image, -1, kernel.numpy(), borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(shrunk(Shrinking("", kernel)), imresize(blurred, 1 / 4), atol=1e-9)
    blocks = image.reshape(16, 4, 24, 4, 3)
    expected = {
        "area": blocks.mean((1, 3)),
        "nearest, aliasing": blocks[:, 2, :, 2],
        "bilinear, aliasing": blocks[:, 1:3, :, 1:3].mean((1, 3)),
    }
    for name, pixels in expected.items():
        np.testing.assert_allclose(shrunk(Shrinking("", resizer=name)), pixels, atol=1e-9)
    # The two that smooth, against Pillow's filters of the same names.
    for name, kind in (("bilinear", Image.Resampling.BILINEAR), ("Lanczos", Image.Resampling.LANCZOS)):
        small = np.asarray(Image.fromarray(gt).resize((24, 16), kind)) / 255
        inside = (slice(2, -2), slice(2, -2))
        assert np.abs(shrunk(Shrinking("", resizer=name)) - small)[inside].max() < 1.5 / 255


def test_corruptions() -> None:
    small = torch.full((1, 3, 200, 200), 0.5, dtype=torch.float64)
    noisy = corrupt(small, Corruption("", noise=10), seed=1).astype(float)
    assert noisy.std() == pytest.approx(10, rel=0.02)
    assert np.array_equal(noisy, corrupt(small, Corruption("", noise=10), seed=1))
    assert not np.array_equal(noisy, corrupt(small, Corruption("", noise=10), seed=2))
    image = photo()
    small = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255
    assert np.array_equal(corrupt(small, Corruption(""), seed=0), image)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    assert np.array_equal(corrupt(small, Corruption("", quality=40), seed=0), np.asarray(Image.open(buffer)))


def repeat(lq: np.ndarray) -> np.ndarray:
    return lq.repeat(4, 0).repeat(4, 1)


def test_the_degradation_that_a_planted_network_undoes(tmp_path: Path) -> None:
    """Images of constant cells: whatever keeps a cell's value is undone by repeating it, nothing else is."""
    for number in range(2):
        save(tmp_path / "HR" / f"{number}.png", repeat(photo(24, 20, left=90 + 30 * number)))
    conditions = make_conditions(isotropic=[1.5], anisotropic=[2], motion=[6], noise=[8], jpeg=[50])
    outcome = run_robustness(
        find_dataset(tmp_path, 4),
        [NamedUpscaler("planted", 4, repeat)],
        conditions,
        metrics=["psnr", "ssim"],
        crop=0,
        images=0,
    )
    rows, columns = outcome.result["rows"], outcome.result["columns"]
    assert columns == ["clean", "noise 8", "JPEG 50"]
    found = np.array(outcome.result["values"]["planted"]["psnr"])
    perfect = {(rows[row], columns[column]) for row, column in np.argwhere(found == HIGHEST_PSNR)}
    keeping = {"area", "bilinear, aliasing", "nearest, aliasing"}
    assert perfect == {(row, "clean") for row in keeping}
    assert np.array(outcome.result["values"]["planted"]["ssim"])[rows.index("area"), 0] == pytest.approx(1)
    assert found[found < HIGHEST_PSNR].max() < 60
    assert "| area" in outcome.summary
    assert set(rows) == {"bicubic", "isotropic 1.5", "anisotropic 2", "motion 6", *RESIZERS}


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = program("robustness")
    save(tmp_path / "HR" / "cat.png", photo())
    network = checkpoint(tmp_path / "net.pth")
    few = ["--isotropic", "1", "--anisotropic", "--motion", "--noise", "9", "--jpeg", "--crop", "64"]
    prefix = ["--data", str(tmp_path), "--device", "cpu", "-o", str(tmp_path / "found")]
    assert main(["--model", f"mine={network}", *prefix, *few]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert np.array(found["values"]["mine"]["psnr"]).shape == (7, 2)
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    assert main(["--model", str(network), *prefix, "--jpeg", "101"]) == 2
    assert main(["--model", "LMLT_tiny", *prefix]) == 2
    assert "LMLT_tiny is not trained: give a checkpoint" in capsys.readouterr().err
    save(tmp_path / "HR" / "small.png", photo(40, 72))
    assert main(["--model", str(network), *prefix, *few]) == 1
    assert "40x64 pixels are too few" in capsys.readouterr().err


def test_networks_of_two_scales_are_refused(tmp_path: Path) -> None:
    texts = [str(checkpoint(tmp_path / f"{scale}.pth", scale=scale)) for scale in (2, 3)]
    with pytest.raises(UsageError, match="2 x2, 3 x3"):
        load_upscalers(texts, torch.device("cpu"))
