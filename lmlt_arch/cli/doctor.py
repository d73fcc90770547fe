"""`lmlt doctor`: the installed versions, the applied patches, and what keeps training from working."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor` to the command."""
    parser = subparsers.add_parser("doctor", help="check the installation and say what to do about problems")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the installation and its problems; 1 if training cannot work here."""
    from lmlt_arch.hook import diagnosis

    problems: list[str] = []
    for title, rows in diagnosis.sections(problems):
        print(title)
        for name, words in rows:
            print(f"  {name:<16}{words}" if len(name) < 16 else f"  {name}\n      {words}")
    if not problems:
        print("Training works here.")
        return 0
    print("Training cannot work here:")
    for problem in problems:
        print(f"  * {problem}")
    return 1
