r"""How much does more data help? One network on growing shares of a training set.

The network of an option file is trained by torchrun and BasicSR on random shares of the photographs, for the
same number of iterations on each, and measured on datasets. The shares of a seed are nested; each seed has
other images and other initial weights. The same command resumes an interrupted program.

  python scripts/experiments/data_scaling.py --network dim=24 n_blocks=3 \
      --train datasets/BSDS400 --data datasets/benchmark/Set5

How to read it: PSNR over the number of images, mean ± standard deviation over the seeds, and what a doubling
of the images gains, with its 95 % interval. While the curve rises by more than the spread, more data help;
where it is flat, the network or the length of the training is the limit. A short training, as by default,
sees few patches of any set and is flat early: what it says holds for its length. --full trains as long as the
option file says.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.program import Outcome, make_parser, run_experiment
from common.statistics import LEAST_PLACES, slope_interval
from common.training import (
    Options,
    Schedule,
    add_training_arguments,
    as_json,
    plus_minus,
    read_base,
    run_options,
    schedule_of,
    spread_of,
    trainer_of,
    with_network,
)
from lmlt_arch.cli.streams import progress_bar
from lmlt_arch.data.listing import list_images
from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.benchmark.datasets import Dataset, find_dataset
from lmlt_arch.evaluation.benchmark.run import run_benchmark
from lmlt_arch.evaluation.figures import new_figure
from lmlt_arch.evaluation.markdown import paragraph, table
from lmlt_arch.evaluation.models import load_models
from lmlt_arch.files import make_folder, write_atomic


class Curve(NamedTuple):
    """PSNR on one dataset.

    Attributes:
        data: its name.
        bicubic: of bicubic upscaling.
        psnr: by number of images, of one run for each seed.
    """

    data: str
    bicubic: float
    psnr: dict[int, list[float]]


def counts_of(total: int, shares: Sequence[float]) -> list[int]:
    """How many images the shares are: at least one, each number once.

    Raises:
        UsageError: a share outside (0, 1].
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise UsageError("--shares must be above 0 and at most 1")
    return sorted({max(1, round(share * total)) for share in shares})


def nested_subsets(names: Sequence[str], counts: Sequence[int], *, seed: int) -> list[list[str]]:
    """Random subsets, each of which holds the smaller ones; other seeds give others."""
    order = np.random.default_rng(seed).permutation(len(names))
    return [sorted(names[number] for number in order[:count]) for count in counts]


def run_data_scaling(
    base: Options,
    learn: Callable[[Options], Path],
    schedule: Schedule,
    folder: Path,
    *,
    shares: Sequence[float],
    seeds: Sequence[int],
    data: Sequence[Path],
    device: Any,
) -> Outcome:
    """Train on each share with each seed for equally many iterations, and measure.

    Args:
        base: options with the network.
        learn: from options to a checkpoint, as `Trainer.train`.
        schedule: what runs have in common.
        folder: for the lists of images.
        shares: of the photographs.
        seeds: one run on each share for each; the seed also chooses the images.
        data: datasets to measure on.
        device: where networks are measured.

    Raises:
        UsageError: no photographs, or a share outside (0, 1].
    """
    sets = [find_dataset(place, int(base["scale"])) for place in data]
    names = [str(path) for path in list_images(schedule.photographs)]
    if not names:
        raise UsageError(f"no images in {schedule.photographs}")
    counts = counts_of(len(names), shares)
    make_folder(folder)
    checkpoints: dict[tuple[int, int], Path] = {}
    with progress_bar("data scaling", "training", len(seeds) * len(counts)) as bar:
        for seed in seeds:
            for count, subset in zip(counts, nested_subsets(names, counts, seed=seed), strict=True):
                bar.set_postfix_str(f"{count} images, seed {seed}")
                listed = _write_list(folder, subset)
                name = f"{count}_images_seed{seed}"
                options = run_options(base, schedule, name=name, seed=seed, meta_info=listed)
                # Epochs of about the same length, whatever the share.
                options["datasets"]["train"]["dataset_enlarge_ratio"] *= math.ceil(len(names) / count)
                checkpoints[count, seed] = learn(options)
                bar.update()
    curves = _curves(sets, checkpoints, counts, seeds, device)
    settings = {"network_g": base["network_g"], "scale": base["scale"]}
    return outcome_of(curves, settings | {"schedule": as_json(schedule), "seeds": list(seeds)})


def _curves(
    sets: Sequence[Dataset],
    checkpoints: Mapping[tuple[int, int], Path],
    counts: Sequence[int],
    seeds: Sequence[int],
    device: Any,
) -> list[Curve]:
    """PSNR of the checkpoints, which are given by number of images and seed."""
    texts = [f"run {number}={path}" for number, path in enumerate(checkpoints.values())]
    models = load_models(texts, device=device)
    curves = []
    for found in sets:
        bicubic, *rows = run_benchmark(found, models, metrics=("psnr",)).rows
        psnr = {key: row.mean["psnr"] for key, row in zip(checkpoints, rows, strict=True)}
        by_count = {count: [psnr[count, seed] for seed in seeds] for count in counts}
        curves.append(Curve(found.name, bicubic.mean["psnr"], by_count))
    return curves


def _write_list(folder: Path, names: Sequence[str]) -> Path:
    """A meta info file named after its content, since runs are identified by their options."""
    content = "".join(f"{name}\n" for name in names).encode()
    path = folder / f"{len(names)}_images_{hashlib.sha256(content).hexdigest()[:8]}.txt"
    write_atomic(path, content)
    return path


def outcome_of(curves: Sequence[Curve], settings: dict[str, Any]) -> Outcome:
    """Spread, gain per doubling and figure of measured curves."""
    results = []
    parts = []
    for curve in curves:
        points = {count: spread_of(values) for count, values in curve.psnr.items()}
        result: dict[str, Any] = {
            "data": curve.data,
            "bicubic": curve.bicubic,
            "images": list(points),
            "psnr": list(points.values()),
        }
        lines = [[f"{count:,}", plus_minus(point, 3)] for count, point in points.items()]
        part = f"{paragraph(curve.data)} (bicubic: {curve.bicubic:.3f} dB)\n\n"
        part += table(["images", "PSNR ↑"], lines)
        if len(points) >= LEAST_PLACES:
            doubling = _per_doubling(curve)
            result["db_per_doubling"] = doubling
            part += (
                f"\nA doubling of the images gains {doubling['value']:+.3f} dB "
                f"(95 % interval {doubling['low']:+.3f} to {doubling['high']:+.3f}).\n"
            )
        results.append(result)
        parts.append(part)
    markdown = "\n".join(parts)
    return Outcome({**settings, "results": results, "markdown": markdown}, markdown, _draw(curves))


def _per_doubling(curve: Curve) -> dict[str, float]:
    points = [(math.log2(count), value) for count, values in curve.psnr.items() for value in values]
    doublings, psnr = zip(*points, strict=True)
    return slope_interval(doublings, psnr)._asdict()


def _draw(curves: Sequence[Curve]) -> Any:
    """A panel for each dataset: a dot for each run, mean and spread."""
    figure = new_figure(5.2 * len(curves), 4)
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        counts = list(curve.psnr)
        spreads = [spread_of(values) for values in curve.psnr.values()]
        axes.errorbar(
            counts,
            [spread["mean"] for spread in spreads],
            yerr=[spread["std"] or 0 for spread in spreads],
            fmt="o-",
            color="black",
            capsize=4,
            label="mean and spread",
        )
        for count, values in curve.psnr.items():
            axes.scatter([count] * len(values), values, color="C0", alpha=0.7, zorder=3)
        axes.axhline(curve.bicubic, color="gray", linestyle=":", label="bicubic")
        axes.set(title=curve.data, xscale="log", xlabel="training images", ylabel="PSNR, dB")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


ROOT = Path(__file__).resolve().parents[2]


def _run(args: argparse.Namespace) -> Outcome:
    schedule = schedule_of(args)
    trainer = trainer_of(args, ROOT / "basicsr" / "train.py")
    return run_data_scaling(
        with_network(read_base(args.opt), _changes(args.network)),
        trainer.train,
        schedule,
        args.runs,
        shares=args.shares,
        seeds=args.seeds,
        data=args.data,
        device=args.device,
    )


def _changes(texts: list[str]) -> dict[str, Any]:
    """KEY=VALUE, values as YAML reads them."""
    import yaml

    changes = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise UsageError(f"--network {text}: give KEY=VALUE")
        changes[key] = yaml.safe_load(value)
    return changes


def main(argv: list[str] | None = None) -> int:
    """Run the experiment."""
    parser = make_parser("data_scaling", str(__doc__))
    add = parser.add_argument
    default = ROOT / "options" / "train_LMLT_tiny_x4.yml"
    add(
        "-opt",
        type=Path,
        default=default,
        metavar="FILE",
        help="option file (default: train_LMLT_tiny_x4.yml)",
    )
    add("--network", nargs="*", default=[], metavar="KEY=VALUE", help="changes of its network_g")
    shares = [0.01, 0.05, 0.25, 1.0]
    add("--shares", type=float, nargs="+", default=shares, help="of the images (default: 0.01 0.05 0.25 1)")
    add_training_arguments(parser, "data_scaling")
    return run_experiment(parser, _run, argv)


if __name__ == "__main__":
    sys.exit(main())
