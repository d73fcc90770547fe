"""The command line of an experiment: common arguments, output files, error messages."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lmlt_arch.errors import explain
from lmlt_arch.evaluation.figures import to_png
from lmlt_arch.evaluation.models import describe_environment
from lmlt_arch.evaluation.outputs import check_outputs, with_endings
from lmlt_arch.evaluation.profile.plot import check_plots
from lmlt_arch.files import make_folder, write_atomic
from lmlt_arch.inference.runner import choose_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Outcome(NamedTuple):
    """The results of an experiment.

    Attributes:
        result: its figures, in types that JSON has.
        summary: the answer in a few lines, for the terminal.
        figure: the picture.
    """

    result: Mapping[str, Any]
    summary: str
    figure: Figure


def make_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A command line with the arguments that all experiments have.

    Args:
        name: of the experiment and of its files.
        description: what question it answers, how, and how to read the result.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results") / name,
        metavar="PREFIX",
        help="write PREFIX.json and PREFIX.png (default: %(default)s)",
    )
    return parser


def run_experiment(
    parser: argparse.ArgumentParser,
    experiment: Callable[[argparse.Namespace], Outcome],
    argv: list[str] | None = None,
) -> int:
    """Run an experiment and write PREFIX.json and PREFIX.png.

    Args:
        parser: see `make_parser`; `args.device` is a `torch.device` by the time `experiment` sees it.
        experiment: the work; what it imports from an extra, it imports inside.
        argv: the command line; None for the program's own.

    Returns:
        The exit status, see `lmlt_arch.errors.EXIT_STATUS`.
    """
    args = parser.parse_args(argv)
    try:
        check_plots()
        # Before the work, after which intervals need it.
        import_module("scipy")
        paths = with_endings(args.output, (".json", ".png"))
        make_folder(args.output.parent)
        check_outputs(paths, [])
        args.device = choose_device(args.device)
        outcome = experiment(args)
        picture = to_png(outcome.figure)
        result = {"environment": describe_environment(args.device), **outcome.result}
        write_atomic(paths[0], (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
        write_atomic(paths[1], picture)
    except Exception as error:
        if (explanation := explain(error)) is None:
            raise
        print(f"{parser.prog}: error: {explanation.sentence}", file=sys.stderr)
        return explanation.exit_status
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error is: an arrow that the terminal does not know is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    print(outcome.summary)
    print(f"written: {', '.join(map(str, paths))}")
    return 0
