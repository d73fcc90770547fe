"""The published weights outside of this package, on Set5: the published protocol's figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmlt_arch.cli import main
from lmlt_arch.data.images import read_image
from lmlt_arch.export import spandrel_support
from lmlt_arch.export.onnx_runner import OnnxRunner
from lmlt_arch.metrics.psnr_ssim import psnr

# After the plugin, which fixes what spandrel imports where that is broken.
import spandrel  # isort: skip

# Mean Y-PSNR of `params_ema` with the published code, see benchmark/README.md of the reference material.
PUBLISHED = 32.1889


def as_tensor(path: Path) -> Tensor:
    return torch.from_numpy(read_image(path).copy()).permute(2, 0, 1)[None]


def mean_psnr(network: Callable[[Tensor], Tensor], set5: Path) -> float:
    values = []
    for gt_path in sorted((set5 / "HR").glob("*.png")):
        lq = as_tensor(set5 / "LR_bicubic" / "X4" / f"{gt_path.stem}x4.png").float() / 255
        with torch.inference_mode():
            sr = (network(lq).clamp(0, 1) * 255).round().byte()
        values.append(psnr(sr, as_tensor(gt_path), crop_border=4, test_y_channel=True).item())
    assert len(values) == 5
    return sum(values) / 5


@pytest.mark.slow
def test_set5_through_onnx(shared_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    weights = shared_dir / "weights" / "LMLT_tiny_x4.pth"
    assert main(["export", "--model", str(weights), "-o", str(path)]) == 0
    assert path.stat().st_size < 2e6
    assert mean_psnr(OnnxRunner(path), shared_dir / "benchmark" / "Set5") == pytest.approx(
        PUBLISHED, abs=1e-3
    )


@pytest.mark.slow
def test_set5_through_spandrel(shared_dir: Path) -> None:
    spandrel_support.install()
    network = spandrel.ModelLoader().load_from_file(shared_dir / "weights" / "LMLT_tiny_x4.pth")
    assert mean_psnr(network, shared_dir / "benchmark" / "Set5") == pytest.approx(PUBLISHED, abs=1e-3)
