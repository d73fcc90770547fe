"""Networks on datasets: each image upscaled, measured, averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.data.imresize import imresize
from lmlt_arch.evaluation.benchmark.datasets import Dataset
from lmlt_arch.evaluation.models import LoadedModel
from lmlt_arch.evaluation.pairs import BICUBIC, read_pair, score
from lmlt_arch.metrics import calculate_pyiqa, prepare_metrics

Pixels = NDArray[np.uint8]


class Metric(NamedTuple):
    """How a metric is written in tables."""

    title: str
    digits: int


METRICS = {
    "psnr": Metric("PSNR ↑", 2),
    "ssim": Metric("SSIM ↑", 4),
    "lpips": Metric("LPIPS ↓", 4),
    "dists": Metric("DISTS ↓", 4),
    "niqe": Metric("NIQE ↓", 4),
}
"""By the names of `--metrics`; all but the first two come from pyiqa."""
_ON_LUMA = ("psnr", "ssim")

Values = dict[str, float]


@dataclass(frozen=True)
class Row:
    """A network on a dataset.

    Attributes:
        name: of the network, or `bicubic`.
        model: None for bicubic.
        images: values by metric, in the order of the dataset's items.
    """

    name: str
    model: LoadedModel | None
    images: list[Values]

    @property
    def mean(self) -> Values:
        """Over the images."""
        return {
            name: math.fsum(image[name] for image in self.images) / len(self.images)
            for name in self.images[0]
        }


@dataclass(frozen=True)
class Result:
    """Networks of one scale on one dataset."""

    data: Dataset
    rows: list[Row]


def prepare_named(metrics: Sequence[str]) -> None:
    """Load what metrics need before the work that is to be measured.

    Raises:
        MetricError: one of them is not available.
    """
    prepare_metrics(
        {name: {"type": "calculate_pyiqa", "metric": name} for name in metrics if name not in _ON_LUMA}
    )


def run_benchmark(
    data: Dataset,
    models: Sequence[LoadedModel],
    *,
    metrics: Sequence[str],
    bicubic: bool = True,
    tile: int | None = None,
    after_image: Callable[[], object] = lambda: None,
) -> Result:
    """Measure models on a dataset.

    PSNR and SSIM are of the Y channel without a border of `scale` pixels, as BasicSR computes them; the
    others see the whole image in color.

    Args:
        data: at the models' scale.
        models: of one scale.
        metrics: keys of `METRICS`.
        bicubic: whether bicubic upscaling is measured too.
        tile: see `LoadedModel.upscale`.
        after_image: called after each image, to show progress.

    Raises:
        ImageError: a file that cannot be used.
        DataError: sizes that do not belong together, or a network that gives no image.
        MetricError: a metric that is not available.
    """
    rows = [Row(BICUBIC, None, [])] if bicubic else []
    rows += [Row(model.name, model, []) for model in models]
    for item in data.items:
        lq, gt = read_pair(item.lq, item.gt, data.scale)
        if gt is None:
            raise ValueError("a dataset without ground truth")
        for row in rows:
            upscaled = imresize(lq, data.scale) if row.model is None else row.model.upscale(lq, tile=tile)
            row.images.append(measure(upscaled, gt, metrics, border=data.scale, name=str(item.gt)))
        after_image()
    return Result(data, rows)


def measure(image: Pixels, gt: Pixels, metrics: Sequence[str], *, border: int, name: str) -> Values:
    """How near an image is to ground truth.

    Args:
        image: (H, W, 3).
        gt: the same shape.
        metrics: keys of `METRICS`.
        border: pixels that PSNR and SSIM leave out at each edge.
        name: name of the image in errors.

    Raises:
        DataError: too small an image.
        MetricError: a metric that is not available.
    """
    on_luma = score(image, gt, border=border, name=name)._asdict() if set(metrics) & {*_ON_LUMA} else {}
    # pyiqa's functions take BGR, as BasicSR has it.
    bgr, gt_bgr = image[..., ::-1], gt[..., ::-1]
    return {
        metric: on_luma[metric] if metric in _ON_LUMA else calculate_pyiqa(bgr, gt_bgr, metric=metric)
        for metric in metrics
    }
