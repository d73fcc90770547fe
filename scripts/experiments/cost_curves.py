"""Does cost grow linearly? Latency and peak memory over image area, batch and window size.

Networks run on images of growing area, on growing batches of the smallest image, and with growing windows on
one image. All take turns, so that a busy moment of the machine meets all alike. The logarithm of the cost is
fitted by a line over that of the size; its slope is the exponent k of cost ~ size^k.

  python scripts/experiments/cost_curves.py --model LMLT_tiny --model ESC_light --model basicsr:SwinIR-light

How to read it: k = 1 is linear, 2 is quadratic, 0 is constant. The 95 % interval comes from resampling the
sizes; with few of them it is wide, and below three there is none. "linear" means that it holds 1 and is no
wider than 0.5, "undecided" that it holds 1 and is wider. Costs that do not depend on the size (weights,
starting a kernel) push k below 1 at small sizes: "at the end" is the exponent between the two largest ones.
In the figure, dotted lines are linear growth through the last point. LMLT pads images to multiples of 8
windows, ESC and SwinIR to whole windows: choose sides that are such multiples, as the default is, or see
steps.

Default: a few minutes on two CPU cores. For a GPU: --sides 128 256 512 1024 2048 --repeats 30.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.profile.subjects import find_subjects
from lmlt_arch.experiments.cost_curves import Sweep, run_cost_curves
from lmlt_arch.experiments.program import Outcome, make_parser, run_experiment


def _run(args: argparse.Namespace) -> Outcome:
    numbers = [*args.sides, *args.batches, *args.windows, args.window_image, args.repeats]
    if min(numbers) < 1:
        raise UsageError("sides, batches, windows and repeats must be above 0")
    if not args.sides:
        raise UsageError("--sides needs at least one")
    sides, batches, windows = (sorted(set(sizes)) for sizes in (args.sides, args.batches, args.windows))
    subjects = find_subjects(args.model)
    with tempfile.TemporaryDirectory() as folder:
        return run_cost_curves(
            subjects,
            Sweep(sides, batches, windows, args.window_image),
            Path(folder),
            args.device,
            repeats=args.repeats,
            memory=not args.no_memory,
        )


def main(argv: list[str] | None = None) -> int:
    """Run the experiment."""
    parser = make_parser("cost_curves", str(__doc__))
    add = parser.add_argument
    text = "preset, option file, checkpoint or basicsr:NAME; repeatable"
    add("--model", action="append", required=True, metavar="[NAME=]WHAT", help=text)
    numbers: dict[str, Any] = {"type": int, "nargs": "*", "metavar": "N"}
    add("--sides", **numbers, default=[64, 128, 192, 256], help="of square images in LQ pixels")
    add("--batches", **numbers, default=[1, 2, 4, 8, 16, 32], help="of the smallest image")
    add("--windows", **numbers, default=[2, 4, 8, 16], help="sides of windows, for presets and basicsr:NAME")
    add("--window-image", type=int, default=128, metavar="N", help="side of the image for windows")
    add("--repeats", type=int, default=3, metavar="N", help="timed runs of each size (default: 3)")
    add("--no-memory", action="store_true", help="leave out memory, a process for each size on a CPU")
    return run_experiment(parser, _run, argv)


if __name__ == "__main__":
    sys.exit(main())
