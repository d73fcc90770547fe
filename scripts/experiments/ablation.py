r"""Which parts of a network matter? Variants of one network, trained alike, in one table.

A YAML file names a base option file and, for each variant, what it changes of `network_g`. Every variant is
trained by torchrun and BasicSR with the same seeds, hence the same images, crops and turns in the same order,
and measured on datasets. An interrupted program goes on when it is typed again.

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
from pathlib import Path

from lmlt_arch.experiments.ablation import read_plan, run_ablation
from lmlt_arch.experiments.program import Outcome, make_parser, run_experiment
from lmlt_arch.experiments.training import add_training_arguments, schedule_of, trainer_of

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
