r"""How much does more data help? One network on growing shares of a training set.

The network of an option file is trained by torchrun and BasicSR on random shares of the photographs, for the
same number of iterations on each, and measured on datasets. The shares of a seed are nested; each seed draws
other images and other initial weights. An interrupted program goes on when it is typed again.

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
import sys
from pathlib import Path
from typing import Any

from lmlt_arch.errors import UsageError
from lmlt_arch.experiments.data_scaling import run_data_scaling
from lmlt_arch.experiments.program import Outcome, make_parser, run_experiment
from lmlt_arch.experiments.training import (
    add_training_arguments,
    read_base,
    schedule_of,
    trainer_of,
    with_network,
)

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
