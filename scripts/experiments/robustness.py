r"""What happens to images that were not made small by clean bicubic shrinking?

Networks are trained on one degradation. Here ground truth is made small in other ways: blurred first
(isotropic and anisotropic Gaussian, motion), shrunk by other filters (bilinear, Lanczos, area, and two that
alias), and then corrupted by noise or JPEG. Each network upscales all of it.

  python scripts/experiments/robustness.py --model LMLT_tiny_x4.pth --data datasets/benchmark/Set5

How to read it: a heat map for each network and metric; rows are ways of shrinking, columns what followed,
the top left cell is what networks are trained for. Numbers are the metric itself, colors the difference to
bicubic upscaling of the same image: blue is better, red worse. A network is robust where it stays blue;
where a column of noise is red, it amplifies noise. At an even scale "nearest" also moves the image by half a
pixel, which lowers all numbers in its row; "bilinear, aliasing" does not.

Default: the middle 256 pixels of at most 8 images, a few minutes on two CPU cores. --images 0 --crop 0 takes
everything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from common.program import Outcome, make_parser, run_experiment
from lmlt_arch.archs import SRNetwork
from lmlt_arch.cli.streams import progress_bar
from lmlt_arch.data.images import read_image
from lmlt_arch.data.imresize import imresize
from lmlt_arch.errors import DataError, UsageError
from lmlt_arch.evaluation.benchmark.datasets import Dataset, find_dataset
from lmlt_arch.evaluation.benchmark.run import METRICS, measure, prepare_named
from lmlt_arch.evaluation.figures import new_figure
from lmlt_arch.evaluation.markdown import paragraph, table
from lmlt_arch.evaluation.models import LoadedModel, common_scale
from lmlt_arch.evaluation.pairs import BICUBIC
from lmlt_arch.evaluation.profile.sources import find_sources

if TYPE_CHECKING:
    from common.degradations import Corruption, Shrinking

Pixels = NDArray[np.uint8]
_OPTION_FILES = (".yml", ".yaml")


@dataclass(frozen=True)
class NamedUpscaler:
    """An upscaler with the name that it has in tables.

    Attributes:
        name: in tables and pictures.
        scale: output size over input size.
        run: maps (h, w, 3) to (h * scale, w * scale, 3).
    """

    name: str
    scale: int
    run: Callable[[Pixels], Pixels]


def load_upscalers(texts: Sequence[str], device: torch.device) -> list[NamedUpscaler]:
    """Load checkpoints of this package's networks or, with the extra `[spandrel]`, of others.

    Args:
        texts: FILE or NAME=FILE for each.
        device: where the networks go.

    Raises:
        UsageError: none given, two of one name or of different scales, or one that is not trained.
        FileNotFoundError: no such file.
        CheckpointError: a file of an unknown network.
    """
    found = []
    for source in find_sources(texts):
        path = Path(source.text)
        if not path.is_file() or path.suffix.lower() in _OPTION_FILES:
            raise UsageError(f"--model {source.text} is not trained: give a checkpoint")
        network = source.build(source.scale, None).to(device)
        # To upscale whole images, any module does.
        model = LoadedModel(source.name, path, cast(SRNetwork, network), None)
        found.append(NamedUpscaler(source.name, source.scale, model.upscale))
    common_scale(found)
    return found


Grid = NDArray[np.float64]

# An image without any error has no finite PSNR.
HIGHEST_PSNR = 100.0
SMALLEST_SIDE = 64
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Conditions:
    """The axes of the grid: ways of shrinking an image, and corruptions of the small image."""

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
    from common.degradations import (
        ANGLE,
        ASPECT,
        RESIZERS,
        Corruption,
        Shrinking,
        gaussian_kernel,
        motion_kernel,
    )

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
    upscalers: Sequence[NamedUpscaler],
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
        metrics: keys of `METRICS` that compare with ground truth.
        crop: largest side of the middle part of an image that is used; 0 for all of it.
        images: how many images; 0 for all.

    Raises:
        ImageError: a file that cannot be used.
        DataError: an image that is too small.
        MetricError: a metric that is not available.
    """
    from common.degradations import corrupt, shrink

    prepare_named(metrics)
    scale = data.scale
    everyone = [NamedUpscaler(BICUBIC, scale, lambda lq: imresize(lq, scale)), *upscalers]
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
    baseline = means[BICUBIC]
    networks = [name for name in means if name != BICUBIC]
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
            digits = METRICS[metric].digits
            gains = grid - baseline[metric]
            lines = [
                [row, *(f"{value:+.{digits}f}" for value in line)]
                for row, line in zip(rows, gains.tolist(), strict=True)
            ]
            summary.append(
                f"{paragraph(name)}: {METRICS[metric].title} above bicubic upscaling\n\n"
                + table(["shrunk by", *columns], lines)
            )
    return Outcome(result, "\n".join(summary), _draw(means, rows, columns))


def _draw(means: dict[str, dict[str, Grid]], rows: list[str], columns: list[str]) -> Any:
    """A row of panels for each metric: bicubic as it is, each network by its gain over that."""
    metrics = list(means[BICUBIC])
    wide, high = 1.7 + 0.46 * len(columns), 0.9 + 0.24 * len(rows)
    figure = new_figure(wide * len(means), high * len(metrics))
    panels = figure.subplots(len(metrics), len(means), squeeze=False)
    for line, metric in zip(panels, metrics, strict=True):
        title, digits = METRICS[metric]
        baseline = means[BICUBIC][metric]
        gains = {name: grids[metric] - baseline for name, grids in means.items() if name != BICUBIC}
        # Red is worse than bicubic, whichever way the metric counts.
        map_name = "RdBu_r" if "↓" in title else "RdBu"
        most = max((float(np.abs(grid).max()) for grid in gains.values()), default=1.0) or 1.0
        for axes, name in zip(line, means, strict=True):
            grid = means[name][metric]
            if name == BICUBIC:
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


def _run(args: argparse.Namespace) -> Outcome:
    if min([1.0, *args.isotropic, *args.anisotropic, *args.motion, *args.noise]) <= 0:
        raise UsageError("strengths of blur and noise must be above 0")
    if not all(1 <= quality <= 100 for quality in args.jpeg):
        raise UsageError("--jpeg takes qualities of 1 to 100")
    if args.crop < 0 or args.images < 0:
        raise UsageError("--crop and --images must not be negative")
    upscalers = load_upscalers(args.model, args.device)
    return run_robustness(
        find_dataset(args.data, upscalers[0].scale),
        upscalers,
        make_conditions(
            isotropic=args.isotropic,
            anisotropic=args.anisotropic,
            motion=args.motion,
            noise=args.noise,
            jpeg=args.jpeg,
        ),
        metrics=list(dict.fromkeys(args.metrics)),
        crop=args.crop,
        images=args.images,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the experiment."""
    parser = make_parser("robustness", str(__doc__))
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="[NAME=]FILE", help="checkpoint; repeatable")
    add("--data", type=Path, required=True, metavar="FOLDER", help="ground truth, or a dataset with it")
    metrics = ["psnr", "ssim", "lpips", "dists"]
    text = "default: psnr ssim; the others need the extra [metrics]"
    add("--metrics", nargs="+", choices=metrics, default=metrics[:2], help=text)
    sigma: dict[str, Any] = {"type": float, "nargs": "*", "metavar": "SIGMA"}
    add("--isotropic", **sigma, default=[0.8, 1.6, 2.4], help="blur, in pixels of GT")
    add("--anisotropic", **sigma, default=[1.6, 3.2], help="of the longer axis, in pixels of GT")
    add(
        "--motion",
        type=float,
        nargs="*",
        default=[6, 12],
        metavar="LENGTH",
        help="of the path, in pixels of GT",
    )
    add("--noise", **sigma, default=[5, 15, 25], help="of 255, on LQ")
    add("--jpeg", type=int, nargs="*", default=[90, 60, 30], metavar="QUALITY", help="of LQ")
    add("--crop", type=int, default=256, metavar="N", help="middle part of images (default: 256; 0: all)")
    add("--images", type=int, default=8, metavar="N", help="at most so many (default: 8; 0: all)")
    return run_experiment(parser, _run, argv)


if __name__ == "__main__":
    sys.exit(main())
