"""Metrics of pyiqa: those without weights where it is installed, and what is said where it is not."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from basicsr.metrics import calculate_metric
from basicsr.utils.registry import METRIC_REGISTRY

from lmlt_arch.metrics import MetricError, calculate_pyiqa, prepare_metrics

pyiqa = pytest.mark.skipif(find_spec("pyiqa") is None, reason="the extra [metrics] is not installed")
NAMES = ("calculate_lpips", "calculate_dists", "calculate_pyiqa")


@pytest.fixture
def pair() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    return {"img": np.clip(gt + rng.normal(0, 9, gt.shape), 0, 255).astype(np.uint8), "img2": gt}


@pytest.mark.parametrize("name", NAMES)
def test_basicsr_knows_them(name: str) -> None:
    assert METRIC_REGISTRY.get(name).__module__ == "lmlt_arch.metrics.perceptual"


@pyiqa
def test_a_metric_without_weights_through_basicsr(pair: dict[str, np.ndarray]) -> None:
    options = {"type": "calculate_pyiqa", "metric": "psnr", "crop_border": 2, "better": "higher"}
    expected = calculate_metric(pair, {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": False})
    assert calculate_metric(pair, options) == pytest.approx(expected, abs=0.01)
    with pytest.raises(MetricError, match="psnr compares with ground truth"):
        calculate_pyiqa(pair["img"], metric="psnr")
    with pytest.raises(MetricError, match=r"pyiqa has no metric 'psnt'; it has .*psnr"):
        prepare_metrics({"m": {**options, "metric": "psnt"}})


def test_without_the_package_the_error_names_it(tmp_path: Path, repo_root: Path) -> None:
    """In a process of its own whose pyiqa is hidden, whether it is installed or not."""
    program = (
        "import sys; sys.modules['pyiqa'] = None\n"
        "from lmlt_arch.metrics import MetricError, prepare_metrics\n"
        "prepare_metrics({'n': {'type': 'calculate_niqe'}, 'p': {'type': 'calculate_psnr'}})\n"
        "for options in ({'type': 'calculate_lpips'}, {'type': 'calculate_pyiqa', 'metric': 'musiq'}):\n"
        "    try: prepare_metrics({'m': options})\n"
        "    except MetricError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repo_root, capture_output=True, text=True, check=True
    )
    for name in ("lpips", "musiq"):
        assert (
            f'{name} comes from pyiqa, which is not installed: pip install "basicsr-lmlt[metrics]"'
            in done.stdout
        )
