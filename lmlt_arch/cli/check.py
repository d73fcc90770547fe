"""`lmlt check -opt FILE`: find what is wrong with an option file and its data before training."""

from __future__ import annotations

import argparse
from pathlib import Path

from lmlt_arch.errors import MissingPackageError, UsageError

DESCRIPTION = """\
Check an option file without training: its keys and values, the checkpoints it names, and its datasets
(folders or LMDB, pairs, sizes, damaged images); then take one batch through the dataset and, for models of
real photographs, the degradation. Every mistake is named in a line of its own, with the place and the fix; a
line with "note:" explains how training will read something, and is no mistake.

  lmlt check -opt options/train_LMLT_x4.yml -o first_batch.png

makes a picture of the first batch (LQ, its pixels upscaled, beside ground truth), and estimates the memory
that training needs and the time that an iteration takes on this machine. Nothing but that picture is written.

  lmlt check -opt options/train_ESC_x4.yml --nproc 4

checks it for torchrun --nproc_per_node=4 ... --launcher pytorch; without, for one process of its own.
"""
EPILOG = "Exit status: 1 if mistakes are found, else as for every command, see `lmlt --help`."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check` to the command."""
    parser = subparsers.add_parser(
        "check",
        help="find mistakes in an option file and its data before training",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-opt", "--opt", type=Path, required=True, metavar="FILE", help="YAML option file")
    parser.add_argument("-o", "--output", type=Path, metavar="PNG", help="draw the first batch")
    parser.add_argument("--all", action="store_true", help="decode every image (default: 20 of each dataset)")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        help="as training will be given it (default: none, or pytorch if --nproc is above 1)",
    )
    parser.add_argument("--nproc", type=int, default=1, metavar="N", help="processes of the training, in all")
    parser.add_argument("--no-timing", action="store_true", help="do not estimate memory and time")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Name every mistake; 0 if there is none."""
    from importlib.util import find_spec

    if find_spec("basicsr") is None:
        raise MissingPackageError("BasicSR is not installed; `lmlt doctor` says how to install it")
    if args.output is not None and args.output.suffix.lower() != ".png":
        raise UsageError(f"-o is the name of a PNG file; got {args.output}")
    if args.nproc < 1 or (args.launcher == "none" and args.nproc > 1):
        raise UsageError("--nproc is 1 or more, and 1 without a launcher")
    from lmlt_arch.hook import finder, patches

    finder.install()
    patches.load()  # their names are checked, also without BasicSR
    # Imports BasicSR, which the finder patches.
    from lmlt_arch.check.run import check_file
    from lmlt_arch.options.total_batch import Launch

    launch = Launch((args.launcher or "none") != "none" or args.nproc > 1, args.nproc)
    found = check_file(
        args.opt, launch, print, everything=args.all, picture=args.output, timing=not args.no_timing
    )
    for mistake in found:
        print(mistake)
    if found:
        print(f"{len(found)} mistake{'s' if len(found) > 1 else ''} found")
    else:
        print("nothing wrong found")
    return 1 if found else 0
