"""`lmlt check -opt FILE`: find what is wrong with an option file and its data before training."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    from lmlt_arch.options import OptionError

    finder.install()
    patches.load()  # their names are checked, also without BasicSR
    try:
        findings = _check(args)
    except OptionError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise
        findings = str(error).splitlines()
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
    from lmlt_arch.check.data import data_findings
    from lmlt_arch.check.network import network_findings
    from lmlt_arch.data.images import reason_of
    from lmlt_arch.names import runs_ours
    from lmlt_arch.options import (
        OptionError,
        file_findings,
        option_mistakes,
        option_notes,
        read_option_file,
    )
    from lmlt_arch.options.checks.total_batch import Launch
    from lmlt_arch.options.defaults import write_defaults
    from lmlt_arch.options.fields import with_numbers

    opt, lines, mistakes = read_option_file(args.opt)
    launch = Launch((args.launcher or "none") != "none" or args.nproc > 1, args.nproc)
    mistakes += option_mistakes(opt, launch=launch)
    found = [*mistakes, *option_notes(opt, launch=launch)]
    if not mistakes:
        found += [*file_findings(opt), *data_findings(opt, launch, everything=args.all)]
    _say(opt, launch, [note for note in found if note.is_note], args.opt, lines)
    mistakes = [mistake for mistake in found if not mistake.is_note]
    if mistakes:
        raise OptionError(mistakes, args.opt, lines)
    opt = with_numbers({**opt, "name": "check"})
    if runs_ours(opt):
        write_defaults(opt)
    try:
        batch = first_batch(opt)
    except Exception as error:  # whatever a dataset raises, it would raise in training
        return [f"{args.opt}: datasets: the first batch cannot be made: {reason_of(error)}"]
    if batch is not None:
        print(f"first batch: lq {tuple(batch[0].shape)}, gt {tuple(batch[1].shape)}")
        if args.output is not None:
            draw_batch(*batch, args.output)
            print(f"drawn to {args.output}")
        mistakes = network_findings(opt, *batch)
        if mistakes:
            raise OptionError(mistakes, args.opt, lines)
    if not args.no_timing:
        try:
            _estimate(opt)
        except Exception as error:  # of a network or an optimizer that cannot be built without memory
            print(f"memory and time could not be estimated: {reason_of(error)}")
    return []


def _say(opt: Mapping[str, Any], launch: Any, notes: list[Any], file: Path, lines: Any) -> None:
    """Print the batch in total, and the notes."""
    from lmlt_arch.options.checks.total_batch import total_batch
    from lmlt_arch.options.mistakes import line_of, shown

    batch = total_batch(opt, launched=launch.launched, processes=launch.processes)
    if batch is not None and "train" in opt:
        print(f"{batch} (assumed: {launch})")
    for note in sorted(notes, key=lambda note: line_of(note.place, lines) or 0):
        print(f"note: {shown(note, file, lines)}")


def _estimate(opt: Mapping[str, Any]) -> None:
    import torch

    from lmlt_arch.check.batch import training_patch
    from lmlt_arch.check.cost import estimate_memory, measure_iteration
    from lmlt_arch.inference.engine.memory import available_memory

    patch = training_patch(opt)
    if patch is None:
        return
    memory = estimate_memory(opt, *patch)
    parts = ", ".join(f"{name} {_bytes(count)}" for name, count in memory._asdict().items())
    print(
        f"memory of a training step: about {_bytes(memory.total)} ({parts}); a perceptual loss adds its own"
    )
    # The network is built there, and has gradients, on the CPU at first.
    if memory.parameters + memory.gradients > available_memory(torch.device("cpu")):
        print("time of an iteration: not measured, the network alone takes more memory than is free here")
        return
    seconds, measured = measure_iteration(opt, *patch)
    print(f"time of an iteration: about {seconds:.2f} s ({measured})")


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"
