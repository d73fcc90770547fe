r"""What happens to images that were not made small by clean bicubic shrinking?

Networks are trained on one degradation. Here ground truth is made small in other ways: blurred first
(isotropic and anisotropic Gaussian, motion), shrunk by other filters (bilinear, Lanczos, area, and two that
alias), and then corrupted by noise or JPEG. Each network upscales all of it.

  python scripts/experiments/robustness.py --model LMLT_tiny_x4.pth --data datasets/benchmark/Set5

How to read it: a heat map for each network and measure; rows are ways of shrinking, columns what followed,
the top left cell is what networks are trained for. Numbers are the measure itself, colors the difference to
bicubic upscaling of the same image: blue is better, red worse. A network is robust where it stays blue;
where a column of noise is red, it amplifies noise. At an even scale "nearest" also moves the image by half a
pixel, which lowers all numbers in its row; "bilinear, aliasing" does not.

Default: the middle 256 pixels of at most 8 images, a few minutes on two CPU cores. --images 0 --crop 0 takes
everything.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.benchmark.datasets import find_dataset
from lmlt_arch.experiments.networks import load_upscalers
from lmlt_arch.experiments.program import Outcome, make_parser, run_experiment


def _run(args: argparse.Namespace) -> Outcome:
    from lmlt_arch.experiments.robustness import make_conditions, run_robustness

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
