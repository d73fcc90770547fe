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
from lmlt_arch.cli.streams import give_up_output, standard_streams
from lmlt_arch.errors import shortage
from lmlt_arch.files import OutputError
from lmlt_arch.hook import checkout
from lmlt_arch.version import __version__


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; subcommands load torch only when they run."""
    parser = argparse.ArgumentParser(prog="lmlt", description="LMLT and ESC super-resolution for BasicSR.")
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
    """Run one subcommand; returns its exit status (0 done, 1 failed, 2 usage, 130 interrupted)."""
    with standard_streams():
        try:
            try:
                return _run(argv)
            finally:
                # Not later, when nobody could be told.
                sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read the output has seen enough.
            give_up_output()
            return 1
        except OutputError as error:
            print(f"lmlt: error: {error}", file=sys.stderr)
            give_up_output()
            return 1
        except KeyboardInterrupt:
            print("lmlt: interrupted", file=sys.stderr)
            return 130
        except (MemoryError, OSError, RuntimeError) as error:
            if (lacking := shortage(error)) is None:
                raise
            print(f"lmlt: error: {lacking}", file=sys.stderr)
            return 1


def _run(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    checkout.see_as_torchrun()
    status: int = args.run(args)
    return status
