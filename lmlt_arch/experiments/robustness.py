"""Networks on degradations they were not trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmlt_arch.cli.progress import progress_bar
from lmlt_arch.data.images import read_image
from lmlt_arch.data.imresize import imresize
from lmlt_arch.errors import DataError
from lmlt_arch.evaluation.benchmark.datasets import Dataset
from lmlt_arch.evaluation.benchmark.run import MEASURES, measure, prepare_measures
from lmlt_arch.evaluation.figures import new_figure
from lmlt_arch.evaluation.markdown import paragraph, table
from lmlt_arch.experiments.damage import (
    ANGLE,
    ASPECT,
    RESIZERS,
    Corruption,
    Shrinking,
    corrupt,
    gaussian_kernel,
    motion_kernel,
    shrink,
)
from lmlt_arch.experiments.networks import Upscaler
from lmlt_arch.experiments.program import Outcome

Pixels = NDArray[np.uint8]
Grid = NDArray[np.float64]

BASELINE = "bicubic"
# An image without any error has no finite PSNR.
HIGHEST_PSNR = 100.0
SMALLEST_SIDE = 64
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Conditions:
    """The axes of the grid: how images were made small, and what happened to them then."""

    shrinkings: Sequence[Shrinking]
    corruptions: Sequence[Corruption]


def make_conditions(
    *,
    isotropic: Sequence[float],
    anisotropic: Sequence[float],
    motion: Sequence[float],
    noise: Sequence[float],
    jpeg: Sequence[int],
) -> Conditions:
    """The grid of degradations, in the order of tables; the first cell is what networks are trained for.

    Args:
        isotropic: standard deviations of Gaussian blur in pixels of ground truth.
        anisotropic: the same of the longer axis, which is turned by 45 degrees; the other is a third of it.
        motion: lengths of a motion's path at 45 degrees, in pixels of ground truth.
        noise: standard deviations of 255, in LQ.
        jpeg: qualities, of LQ.
    """
    shrinkings = [Shrinking("bicubic")]
    shrinkings += [Shrinking(f"isotropic {sigma:g}", gaussian_kernel(sigma)) for sigma in isotropic]
    shrinkings += [
        Shrinking(f"anisotropic {sigma:g}", gaussian_kernel(sigma, aspect=ASPECT, angle=ANGLE))
        for sigma in anisotropic
    ]
    shrinkings += [Shrinking(f"motion {length:g}", motion_kernel(length, angle=ANGLE)) for length in motion]
    shrinkings += [Shrinking(name, resizer=name) for name in RESIZERS]
    corruptions = [Corruption("clean")]
    corruptions += [Corruption(f"noise {sigma:g}", noise=sigma) for sigma in noise]
    corruptions += [Corruption(f"JPEG {quality}", quality=quality) for quality in jpeg]
    return Conditions(shrinkings, corruptions)


def run_robustness(
    data: Dataset,
    upscalers: Sequence[Upscaler],
    conditions: Conditions,
    *,
    metrics: Sequence[str],
    crop: int,
    images: int,
) -> Outcome:
    """Upscale what is degraded in each way, and measure.

    Args:
        data: ground truth at the networks' scale.
        upscalers: of one scale; bicubic upscaling is added.
        conditions: see `make_conditions`.
        metrics: keys of `MEASURES` that compare with ground truth.
        crop: largest side of the middle part of an image that is used; 0 for all of it.
        images: how many images; 0 for all.

    Raises:
        ImageError: a file that cannot be used.
        DataError: an image that is too small.
        MetricError: a measure that cannot be had.
    """
    prepare_measures(metrics)
    scale = data.scale
    everyone = [Upscaler(BASELINE, scale, lambda lq: imresize(lq, scale)), *upscalers]
    items = data.items[:images] if images else data.items
    shape = (len(items), len(conditions.shrinkings), len(conditions.corruptions))
    found = {e.name: {metric: np.empty(shape) for metric in metrics} for e in everyone}
    with progress_bar("robustness", "cell", int(np.prod(shape))) as bar:
        for number, item in enumerate(items):
            gt = _middle(read_image(item.gt), crop, scale, str(item.gt))
            for row, shrinking in enumerate(conditions.shrinkings):
                small = shrink(gt, shrinking, scale)
                for column, corruption in enumerate(conditions.corruptions):
                    lq = corrupt(small, corruption, seed=number)
                    for upscaler in everyone:
                        values = measure(upscaler.run(lq), gt, metrics, border=scale, name=str(item.gt))
                        for metric, value in values.items():
                            highest = HIGHEST_PSNR if metric == "psnr" else np.inf
                            found[upscaler.name][metric][number, row, column] = min(value, highest)
                    bar.update()
    means = {name: {k: v.mean(0) for k, v in grids.items()} for name, grids in found.items()}
    return _outcome(data, conditions, means, images=len(items), crop=crop)


def _middle(image: Pixels, crop: int, scale: int, name: str) -> Pixels:
    height, width = (min(side, crop or side) // scale * scale for side in image.shape[:2])
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(f"{name}: {width}x{height} pixels are too few, at least {SMALLEST_SIDE} are needed")
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _outcome(
    data: Dataset, conditions: Conditions, means: dict[str, dict[str, Grid]], *, images: int, crop: int
) -> Outcome:
    rows = [shrinking.name for shrinking in conditions.shrinkings]
    columns = [corruption.name for corruption in conditions.corruptions]
    baseline = means[BASELINE]
    networks = [name for name in means if name != BASELINE]
    result: dict[str, Any] = {
        "data": data.name,
        "scale": data.scale,
        "images": images,
        "crop": crop,
        "rows": rows,
        "columns": columns,
        "values": {name: {k: v.tolist() for k, v in grids.items()} for name, grids in means.items()},
    }
    summary = []
    for name in networks:
        for metric, grid in means[name].items():
            digits = MEASURES[metric].digits
            gains = grid - baseline[metric]
            lines = [
                [row, *(f"{value:+.{digits}f}" for value in line)]
                for row, line in zip(rows, gains.tolist(), strict=True)
            ]
            summary.append(
                f"{paragraph(name)}: {MEASURES[metric].title} above bicubic upscaling\n\n"
                + table(["shrunk by", *columns], lines)
            )
    return Outcome(result, "\n".join(summary), _draw(means, rows, columns))


def _draw(means: dict[str, dict[str, Grid]], rows: list[str], columns: list[str]) -> Any:
    """A row of panels for each measure: bicubic as it is, each network by its gain over that."""
    metrics = list(means[BASELINE])
    wide, high = 1.7 + 0.46 * len(columns), 0.9 + 0.24 * len(rows)
    figure = new_figure(wide * len(means), high * len(metrics))
    panels = figure.subplots(len(metrics), len(means), squeeze=False)
    for line, metric in zip(panels, metrics, strict=True):
        title, digits = MEASURES[metric]
        baseline = means[BASELINE][metric]
        gains = {name: grids[metric] - baseline for name, grids in means.items() if name != BASELINE}
        # Red is worse than bicubic, whichever way the measure counts.
        map_name = "RdBu_r" if "↓" in title else "RdBu"
        most = max((float(np.abs(grid).max()) for grid in gains.values()), default=1.0) or 1.0
        for axes, name in zip(line, means, strict=True):
            grid = means[name][metric]
            if name == BASELINE:
                shown = axes.imshow(grid, cmap="viridis", aspect="auto")
                axes.set_title(f"bicubic: {title}", fontsize=9)
            else:
                shown = axes.imshow(gains[name], cmap=map_name, vmin=-most, vmax=most, aspect="auto")
                axes.set_title(f"{name}: {title} (color: above bicubic)", fontsize=9)
            axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=7)
            axes.set_yticks(range(len(rows)), rows, fontsize=7)
            figure.colorbar(shown, ax=axes, pad=0.02).ax.tick_params(labelsize=6)
            colors = shown.to_rgba(shown.get_array())[..., :3]
            for (row, column), value in np.ndenumerate(grid):
                ink = "black" if colors[row, column] @ _LUMA > 0.5 else "white"
                text = f"{value:.{digits}f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=5.5, color=ink)
    return figure
