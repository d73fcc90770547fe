"""The page of commands: what `lmlt SUBCOMMAND --help` prints, for each."""

from __future__ import annotations

import argparse
import os

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from lmlt_arch.cli import build_parser

WIDTH = "100"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, "commands.md", content=content()))
    return files


def content() -> str:
    """The page."""
    parts = ["# Commands\n\nWhat `lmlt COMMAND --help` prints."]
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH  # which argparse breaks lines by
    try:
        for name, parser in _subcommands(build_parser()).items():
            parts.append(f"## lmlt {name}\n\n```text\n{parser.format_help().rstrip()}\n```")
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return "\n\n".join(parts) + "\n"


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)
