r"""Which parts of a network matter? Variants of one network, trained alike, in one table.

A YAML file names a base option file and, for each variant, what it changes of `network_g`. Every variant is
trained by torchrun and BasicSR with the same seeds, hence the same images, crops and turns in the same order,
and measured on datasets. The same command resumes an interrupted program.

  python scripts/experiments/ablation.py scripts/experiments/ablation_lmlt.yml \
      --train datasets/BSDS400 --data datasets/benchmark/Set5

How to read it: the table and the figure give PSNR as mean ± standard deviation over the seeds, and the
difference to the first variant, taken seed by seed. A difference that is not clearly larger than its spread
says nothing; more --seeds make it smaller. By default networks are small and trained for minutes, which shows
what is learned first; --full trains networks as large and as long as the option file says, on GPUs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.program import Outcome, make_parser, run_experiment
from common.training import (
    Options,
    Schedule,
    Trainer,
    add_training_arguments,
    as_json,
    build,
    plus_minus,
    read_base,
    run_options,
    schedule_of,
    spread_of,
    trainer_of,
    with_network,
)
from lmlt_arch.cli.streams import progress_bar
from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.benchmark.datasets import find_dataset
from lmlt_arch.evaluation.benchmark.run import Result, run_benchmark
from lmlt_arch.evaluation.complexity import complexity
from lmlt_arch.evaluation.figures import new_figure
from lmlt_arch.evaluation.markdown import paragraph, table
from lmlt_arch.evaluation.models import LoadedModel, load_models


@dataclass(frozen=True)
class Variant:
    """A network of the ablation.

    Attributes:
        name: in the table.
        changes: of `network_g` of the base.
        options: an option file's content with the network.
    """

    name: str
    changes: dict[str, Any]
    options: Options


@dataclass(frozen=True)
class Plan:
    """What is compared: the first variant with all others."""

    base: Path
    variants: list[Variant]

    @property
    def scale(self) -> int:
        """Of all variants."""
        return int(self.variants[0].options["scale"])


def read_plan(path: Path, *, full: bool, only: Sequence[str] = ()) -> Plan:
    """Read a YAML file of variants: `base`, `variants` and, for short trainings, `small`.

    Args:
        path: the file; `base` is seen from its folder.
        full: leave the base's network as large as it is.
        only: names of the variants to take; none for all.

    Raises:
        UsageError: something is missing, unknown or cannot be built.
    """
    from lmlt_arch.options import OptionError, load_option_file

    try:
        content = load_option_file(path)
    except OptionError as error:
        raise UsageError(str(error)) from error
    unknown = sorted(set(content) - {"base", "small", "variants"})
    variants = content.get("variants")
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]}; known are base, small, variants")
    if not isinstance(content.get("base"), str):
        raise UsageError(f"{path} needs the key base: an option file to train with")
    if not isinstance(variants, dict) or not variants:
        raise UsageError(f"{path} needs the key variants: names, and under each what it changes of network_g")
    small = content.get("small") or {}
    for name, changes in {"small": small, **variants}.items():
        if not isinstance(changes, dict | None):
            raise UsageError(f"{path}: {name} must hold keys and values of network_g, not {changes!r}")
    for name in only:
        if name not in variants:
            raise UsageError(f"{path} has no variant {name!r}; it has {', '.join(map(str, variants))}")
    file = path.parent / content["base"]
    base = read_base(file)
    found = []
    for name in only or variants:
        changes = variants[name]
        try:
            options = with_network(base, {} if full else small, changes or {})
        except UsageError as error:
            raise UsageError(f"{path}: variant {name}: {error}") from error
        found.append(Variant(str(name), changes or {}, options))
    return Plan(file, found)


def run_ablation(
    plan: Plan, trainer: Trainer, schedule: Schedule, *, seeds: Sequence[int], data: Sequence[Path]
) -> Outcome:
    """Train each variant with each seed, measure, compare.

    Args:
        plan: see `read_plan`.
        trainer: where and how runs run.
        schedule: what they have in common.
        seeds: one run of each variant for each.
        data: datasets to measure on.
    """
    sets = [find_dataset(folder, plan.scale) for folder in data]
    runs = [(variant, seed) for seed in seeds for variant in plan.variants]
    checkpoints: dict[tuple[str, int], Path] = {}
    with progress_bar("ablation", "training", len(runs)) as bar:
        for variant, seed in runs:
            bar.set_postfix_str(f"{variant.name}, seed {seed}")
            options = run_options(variant.options, schedule, name=f"{variant.name}_seed{seed}", seed=seed)
            checkpoints[variant.name, seed] = trainer.train(options)
            bar.update()
    texts = [f"run {number}={path}" for number, path in enumerate(checkpoints.values())]
    models = load_models(texts, device=trainer.device)
    results = [run_benchmark(found, models, metrics=("psnr", "ssim")) for found in sets]
    return _outcome(plan, schedule, seeds, dict(zip(checkpoints, models, strict=True)), results)


def _outcome(
    plan: Plan,
    schedule: Schedule,
    seeds: Sequence[int],
    models: dict[tuple[str, int], LoadedModel],
    results: Sequence[Result],
) -> Outcome:
    sets = []
    for result in results:
        means = {row.model.name: row.mean for row in result.rows if row.model is not None}
        values = {
            variant.name: [means[models[variant.name, seed].name] for seed in seeds]
            for variant in plan.variants
        }
        sets.append(
            {
                "data": result.data.name,
                "bicubic": result.rows[0].mean,
                "variants": _compared(values),
            }
        )
    costs = {variant.name: _cost(variant) for variant in plan.variants}
    markdown = "\n".join(f"{paragraph(str(entry['data']))}\n\n{_markdown(entry, costs)}" for entry in sets)
    result_json = {
        "base": plan.base.name,
        "scale": plan.scale,
        "seeds": list(seeds),
        "schedule": as_json(schedule),
        "networks": {
            variant.name: {"network_g": variant.options["network_g"], **costs[variant.name]}
            for variant in plan.variants
        },
        "results": sets,
        "markdown": markdown,
    }
    return Outcome(result_json, markdown, _draw(sets))


def _compared(values: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """For each variant the runs, their mean and spread, and the difference to the first, seed by seed."""
    first = next(iter(values.values()))
    compared = {}
    for name, runs in values.items():
        gains = [run["psnr"] - other["psnr"] for run, other in zip(runs, first, strict=True)]
        compared[name] = {
            "psnr": spread_of([run["psnr"] for run in runs]),
            "ssim": spread_of([run["ssim"] for run in runs]),
            "psnr_minus_first": spread_of(gains),
        }
    return compared


def _cost(variant: Variant) -> dict[str, int]:
    network = build(variant.options)
    counted = complexity(network, int(variant.options["scale"]))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": counted.multiply_adds,
    }


def _markdown(entry: dict[str, Any], costs: dict[str, dict[str, int]]) -> str:
    lines = [["bicubic", "", "", f"{entry['bicubic']['psnr']:.3f}", f"{entry['bicubic']['ssim']:.4f}", ""]]
    for name, found in entry["variants"].items():
        lines.append(
            [
                name,
                f"{costs[name]['parameters'] / 1e3:,.0f} K",
                f"{costs[name]['multiply_adds'] / 1e9:.1f} G",
                plus_minus(found["psnr"], 3),
                plus_minus(found["ssim"], 4),
                plus_minus(found["psnr_minus_first"], 3, sign="+"),
            ]
        )
    heads = ["variant", "parameters", "multiply-adds", "PSNR ↑", "SSIM ↑", "PSNR - first"]
    return table(heads, lines)


def _draw(sets: Sequence[dict[str, Any]]) -> Any:
    """A panel for each dataset: the difference to the first variant, a dot for each seed."""
    count = len(sets[0]["variants"])
    figure = new_figure(5.5 * len(sets) + 1, 1.6 + 0.45 * count)
    for axes, entry in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for place, found in enumerate(entry["variants"].values()):
            gains = found["psnr_minus_first"]
            axes.errorbar(
                gains["mean"], place, xerr=gains["std"] or 0, fmt="D", color="black", capsize=4, zorder=3
            )
            axes.scatter(gains["runs"], [place] * len(gains["runs"]), color="C0", alpha=0.7)
        names = [f"{name}\n{found['psnr']['mean']:.2f} dB" for name, found in entry["variants"].items()]
        axes.set_yticks(range(count), names)
        axes.set_ylim(count - 0.5, -0.5)
        axes.axvline(0, color="gray", linewidth=0.8)
        axes.grid(axis="x", alpha=0.3)
        axes.set(title=entry["data"], xlabel="PSNR above the first variant, dB (dots: seeds; bar: spread)")
    return figure


LAUNCHER = Path(__file__).resolve().parents[2] / "basicsr" / "train.py"


def _run(args: argparse.Namespace) -> Outcome:
    plan = read_plan(args.plan, full=args.full, only=args.only)
    return run_ablation(plan, trainer_of(args, LAUNCHER), schedule_of(args), seeds=args.seeds, data=args.data)


def main(argv: list[str] | None = None) -> int:
    """Run the experiment."""
    parser = make_parser("ablation", str(__doc__))
    parser.add_argument("plan", type=Path, metavar="YAML", help="the variants")
    text = "take these alone; the first is what the others are compared with"
    parser.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help=text)
    add_training_arguments(parser, "ablation")
    return run_experiment(parser, _run, argv)


if __name__ == "__main__":
    sys.exit(main())
