"""Metrics of pyiqa (the extra `[metrics]`) for `val: metrics`, with the arguments of BasicSR's own.

Each takes `img` and, with ground truth, `img2`: BGR of shape (H, W, 3), uint8; and returns a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmlt_arch.errors import LmltError, MissingPackageError, pip_install

Pixels = NDArray[np.uint8]

NAMES = {"calculate_lpips": "lpips", "calculate_dists": "dists"}
"""Names in `val: metrics` that stand for one metric of pyiqa."""


class MetricError(LmltError, RuntimeError):
    """A metric that is not available on this machine; the message names the cause."""


class MissingMetricError(MetricError, MissingPackageError):
    """A metric whose package is not installed."""


def calculate_pyiqa(
    img: Pixels, img2: Pixels | None = None, *, metric: str, crop_border: int = 0, better: str = "higher"
) -> float:
    """Any metric of pyiqa.

    Args:
        img: the image.
        img2: ground truth, for metrics that need it.
        metric: pyiqa's name, such as `musiq`, `maniqa`, `clipiqa`.
        crop_border: pixels left out at each edge.
        better: `higher` or `lower`, for the record of the best result.

    Raises:
        MetricError: pyiqa is not installed, or has no such metric, or cannot get its weights.
    """
    measure = _measure(metric, _device())
    images = [img] if measure.metric_mode == "NR" else [img, img2]
    if any(image is None for image in images):
        raise MetricError(f"{metric} compares with ground truth, which this dataset does not have")
    with torch.inference_mode():
        tensors = [_tensor(image, crop_border) for image in images if image is not None]
        return float(measure(*tensors))


def calculate_lpips(img: Pixels, img2: Pixels, *, crop_border: int = 0, better: str = "lower") -> float:
    """LPIPS (arXiv 1801.03924) with AlexNet; see `calculate_pyiqa`."""
    return calculate_pyiqa(img, img2, metric=NAMES["calculate_lpips"], crop_border=crop_border, better=better)


def calculate_dists(img: Pixels, img2: Pixels, *, crop_border: int = 0, better: str = "lower") -> float:
    """DISTS (arXiv 2004.07728); see `calculate_pyiqa`."""
    return calculate_pyiqa(img, img2, metric=NAMES["calculate_dists"], crop_border=crop_border, better=better)


def prepare_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Load the metrics in `val: metrics`, so that one that is not available ends a run at its start.

    Args:
        metrics: their options by name, as in `val: metrics`.

    Raises:
        MetricError: one of them is not available.
    """
    for options in metrics.values():
        name = NAMES.get(options["type"]) or options.get("metric")
        if name and options["type"] in (*NAMES, "calculate_pyiqa"):
            _measure(name, _device())


@cache
def _measure(name: str, device: str) -> Any:
    try:
        import pyiqa
    except ModuleNotFoundError as error:
        raise MissingMetricError(
            f"{name} comes from pyiqa, which is not installed: {pip_install('metrics')}"
        ) from error
    if name not in pyiqa.list_models():
        raise MetricError(f"pyiqa has no metric {name!r}; it has {', '.join(pyiqa.list_models())}")
    try:
        return pyiqa.create_metric(name, device=torch.device(device))
    except Exception as error:
        # pyiqa has many ways to download weights, which fail with any error.
        raise MetricError(
            f"pyiqa cannot make {name!r}, whose weights it fetches from the Internet at first use: {error}. "
            "Let it do that once where there is a network, and take its cache along"
        ) from error


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _tensor(image: Pixels, border: int) -> Tensor:
    inside = image[border : image.shape[0] - border, border : image.shape[1] - border, ::-1]
    return torch.from_numpy(inside.copy()).permute(2, 0, 1)[None].to(_device()).float() / 255
