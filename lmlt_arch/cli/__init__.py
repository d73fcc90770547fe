"""The `lmlt` command: one module per subcommand, each with `add_parser` and `run`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lmlt_arch.cli import (
    benchmark,
    check,
    compare,
    convert,
    degrade,
    doctor,
    export,
    info,
    prepare,
    profile,
    raw,
    upscale,
)
from lmlt_arch.cli.streams import StandardOutputError, give_up_output, one_line, standard_streams
from lmlt_arch.errors import EXIT_STATUS, FAILED, LmltError, explain
from lmlt_arch.hook import checkout
from lmlt_arch.version import __version__

INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; subcommands load torch only when they run."""
    parser = argparse.ArgumentParser(
        prog="lmlt",
        description="LMLT and ESC super-resolution for BasicSR.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lmlt {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (
        upscale,
        prepare,
        raw,
        check,
        degrade,
        compare,
        benchmark,
        profile,
        export,
        convert,
        info,
        doctor,
    ):
        module.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the only place where errors become a line on standard error.

    Args:
        argv: the arguments; None for those of the process.

    Returns:
        The exit status, see `lmlt_arch.errors.EXIT_STATUS`.
    """
    program = "lmlt"
    with standard_streams():
        try:
            try:
                args = build_parser().parse_args(argv)
                program = f"lmlt {args.command}"
                checkout.see_as_torchrun()
                status: int = args.run(args)
                return status
            finally:
                # Not when Python ends, which would report the loss of output without an exit status.
                sys.stdout.flush()
        except BrokenPipeError:
            # The reader of the output has closed it.
            give_up_output()
            return FAILED
        except KeyboardInterrupt as error:
            print(f"{program}: interrupted{f'; {error}' if str(error) else ''}", file=sys.stderr)
            return INTERRUPTED
        except Exception as error:
            if (explanation := explain(error)) is None:
                raise
            if isinstance(error, StandardOutputError):
                give_up_output()
            print(f"{program}: error: {_printable(error, explanation.sentence)}", file=sys.stderr)
            return explanation.exit_status


def _printable(error: Exception, sentence: str) -> str:
    if isinstance(error, LmltError) and error.several_lines:
        return "\n".join(map(one_line, sentence.splitlines()))
    return one_line(sentence)
