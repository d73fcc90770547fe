"""`python -m attack [--seconds N] [--seed N]`: attack every command, and say what was lost."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from attack import kills, mutations, resources
from attack.commands import make_inputs, preload
from attack.core import attack

PARTS = {part.NAME: part for part in (kills, mutations, resources)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200, help="in all (default: 1200)")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--trials", type=int, nargs="+", metavar="N", help="of each part, at most")
    parser.add_argument(
        "--dearest", type=float, default=1e9, metavar="SECONDS", help="leave out costlier commands"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="trials whose names begin so")
    args = parser.parse_args()
    preload()
    lost = 0
    with tempfile.TemporaryDirectory(prefix="lmlt_attack_") as folder:
        home = Path(folder)
        make_inputs(home / "inputs")
        for name, most in zip(args.parts, args.trials or [None] * len(args.parts), strict=True):
            drawn = PARTS[name].trials(home, random.Random(f"{name} {args.seed}"), args.dearest)
            trials = (trial for trial in drawn if trial.name.startswith(args.only))
            tally = attack(
                name,
                trials,
                seconds=args.seconds / len(args.parts),
                most=most,
                say=lambda text: print(text, flush=True),
            )
            print(tally, flush=True)
            for kind, (tried, failed) in sorted(tally.kinds.items()):
                print(f"  {kind}: tried {tried}, survived {tried - failed}, lost {failed}", flush=True)
            lost += len(tally.lost)
    print(f"seed {args.seed}: {'nothing lost' if not lost else f'{lost} lost'}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
