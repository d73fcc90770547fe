"""`lmlt check -opt FILE`: find what is wrong with an option file and its data before training."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Check an option file without training: its keys and values, the checkpoints it names, and its data sets
(folders or LMDB, pairs, sizes, damaged images); then take one batch through the data set and, for models of
real photographs, the degradation. Every mistake is named in a line of its own, with the place and the mend.

  lmlt check -opt options/train_LMLT_x4.yml -o first_batch.png

draws the first batch (LQ, its pixels enlarged, beside ground truth) and estimates the memory that training
needs and the time that an iteration takes on this machine. Nothing but that picture is written.
"""
EPILOG = "Exit status: 0 nothing wrong, 1 mistakes found, 2 usage, 130 interrupted."


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
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
    parser.add_argument(
        "--all", action="store_true", help="decode every image (default: 20 of each data set)"
    )
    parser.add_argument("--no-timing", action="store_true", help="do not estimate memory and time")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Name every mistake; 0 if there is none."""
    from importlib.util import find_spec

    if find_spec("basicsr") is None:
        print(
            "lmlt check: error: BasicSR is not installed; `lmlt doctor` says how to install it",
            file=sys.stderr,
        )
        return 2
    if args.output is not None and args.output.suffix.lower() != ".png":
        print(f"lmlt check: error: -o is the name of a PNG file; got {args.output}", file=sys.stderr)
        return 2
    from lmlt_arch.files import OutputError
    from lmlt_arch.hook import finder
    from lmlt_arch.options import OptionError

    finder.install()
    try:
        findings = _check(args)
    except OptionError as error:
        findings = str(error).splitlines()
    except OutputError as error:
        findings = [str(error)]
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} mistake{'s' if len(findings) > 1 else ''} found")
    else:
        print("nothing wrong found")
    return 1 if findings else 0


def _check(args: argparse.Namespace) -> list[str]:
    """Findings about the data, once the options are right."""
    from lmlt_arch.check.batch import draw_batch, first_batch
    from lmlt_arch.check.data import data_mistakes
    from lmlt_arch.options import OptionError, file_mistakes, option_mistakes, read_option_file
    from lmlt_arch.options.fields import with_numbers

    opt, lines, mistakes = read_option_file(args.opt)
    mistakes += option_mistakes(opt)
    if not mistakes:
        mistakes = [*file_mistakes(opt), *data_mistakes(opt, everything=args.all)]
    if mistakes:
        raise OptionError(mistakes, args.opt, lines)
    opt = with_numbers({**opt, "name": "check"})
    try:
        batch = first_batch(opt)
    except Exception as error:  # whatever a data set raises, it would raise in training
        return [f"{args.opt}: datasets: the first batch cannot be made: {error}"]
    if batch is not None:
        print(f"first batch: lq {tuple(batch[0].shape)}, gt {tuple(batch[1].shape)}")
        if args.output is not None:
            draw_batch(*batch, args.output)
            print(f"drawn to {args.output}")
    if not args.no_timing:
        _estimate(opt)
    return []


def _estimate(opt: Mapping[str, Any]) -> None:
    from lmlt_arch.check.batch import training_patch
    from lmlt_arch.check.cost import estimate_memory, measure_iteration

    patch = training_patch(opt)
    if patch is None:
        return
    memory = estimate_memory(opt, *patch)
    parts = ", ".join(f"{name} {_bytes(count)}" for name, count in memory._asdict().items())
    print(
        f"memory of a training step: about {_bytes(memory.total)} ({parts}); a perceptual loss adds its own"
    )
    seconds, measured = measure_iteration(opt, *patch)
    print(f"time of an iteration: about {seconds:.2f} s ({measured})")


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"
