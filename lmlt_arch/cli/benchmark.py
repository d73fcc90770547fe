"""`lmlt benchmark --model A --model B --data Set5`: PSNR and SSIM in tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lmlt_arch.errors import pip_install

if TYPE_CHECKING:
    from lmlt_arch.evaluation.benchmark.datasets import Dataset
    from lmlt_arch.evaluation.benchmark.run import Result
    from lmlt_arch.evaluation.models import LoadedModel

DESCRIPTION = """\
Measure networks on datasets, as BasicSR does: PSNR and SSIM on the Y channel, a border of as many pixels as
the scale left out. Beside them stand reference figures where a network has a published one's hyperparameters.

  lmlt benchmark --model LMLT_tiny_x4.pth --model ours=net_g_latest.pth --data datasets/Set5 -o table

prints Markdown and writes table.md, table.csv and table.json. A dataset is a folder with

  HR/baby.png       and LR_bicubic/X4/babyx4.png    (or LR_bicubic/X4/baby.png)
  GTmod12/baby.png  and LRbicx4/baby.png            (or GTmod4/)
  image_SRF_4/img_001_SRF_4_HR.png and img_001_SRF_4_LR.png

or with ground truth alone, in HR/ or as it is: then LR images are made as MATLAB's imresize makes them.
"""
EPILOG = f"LPIPS, DISTS and NIQE need the extra [metrics]: {pip_install('metrics')}."
METRICS = ("psnr", "ssim", "lpips", "dists", "niqe")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `benchmark` to the command."""
    parser = subparsers.add_parser(
        "benchmark",
        help="measure networks on datasets",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="[NAME=]FILE", help="checkpoint; repeatable")
    add("--data", nargs="+", required=True, type=Path, metavar="FOLDER", help="datasets")
    add("--scale", type=int, metavar="N", help="refuse networks of another scale (default: each at its own)")
    add("--metrics", nargs="+", choices=METRICS, default=["psnr", "ssim"], help="default: psnr ssim")
    add("--no-bicubic", action="store_true", help="leave out the row of bicubic upscaling")
    add("-o", "--output", type=Path, metavar="PREFIX", help="write PREFIX.md, PREFIX.csv and PREFIX.json")
    add("--key", help="state dict in the checkpoints (default: params_ema, then params)")
    add("--tile", type=int, metavar="N", help="cut images into tiles of N pixels (default: run them whole)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write the tables."""
    from lmlt_arch.errors import UsageError
    from lmlt_arch.evaluation.benchmark.tables import to_csv, to_json, to_markdown
    from lmlt_arch.evaluation.models import describe_environment
    from lmlt_arch.evaluation.outputs import check_outputs, with_endings
    from lmlt_arch.files import write_atomic
    from lmlt_arch.inference.runner import choose_device

    if args.tile is not None and args.tile < 1:
        raise UsageError("--tile must be above 0")
    device = choose_device(args.device)
    outputs = with_endings(args.output, (".md", ".csv", ".json"))
    check_outputs(outputs, ())
    results = _measure(args)
    environment = describe_environment(device)
    markdown = to_markdown(results, environment)
    for path, text in zip(outputs, (markdown, to_csv(results), to_json(results, environment)), strict=False):
        # Names that are not UTF-8, as standard error shows them.
        write_atomic(path, text.encode(errors="backslashreplace"))
    print(markdown)
    if outputs:
        print(f"written: {', '.join(map(str, outputs))}")
    return 0


def _measure(args: argparse.Namespace) -> list[Result]:
    """Check the request, then measure: all of its mistakes are found before the first image."""
    from lmlt_arch.cli.streams import progress_bar
    from lmlt_arch.errors import UsageError
    from lmlt_arch.evaluation.benchmark.datasets import find_dataset
    from lmlt_arch.evaluation.benchmark.run import prepare_named, run_benchmark
    from lmlt_arch.evaluation.models import load_models
    from lmlt_arch.inference.runner import choose_device

    metrics = list(dict.fromkeys(args.metrics))
    models = load_models(args.model, key=args.key, device=choose_device(args.device))
    for model in models:
        if args.scale not in (None, model.scale):
            raise UsageError(f"{model.path} upscales x{model.scale}, not x{args.scale}")
    work: list[tuple[Dataset, list[LoadedModel]]] = [
        (find_dataset(folder, scale), [model for model in models if model.scale == scale])
        for folder in args.data
        for scale in sorted({model.scale for model in models})
    ]
    prepare_named(metrics)
    results = []
    with progress_bar("benchmark", "image", sum(len(data.items) for data, _ in work)) as bar:
        for data, group in work:
            bar.set_postfix_str(f"{data.name} x{data.scale}")
            results.append(
                run_benchmark(
                    data,
                    group,
                    metrics=metrics,
                    bicubic=not args.no_bicubic,
                    tile=args.tile,
                    after_image=bar.update,
                )
            )
    return results
