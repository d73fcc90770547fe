"""The navigation: known pages in reading order, then the other pages in `docs/`."""

from __future__ import annotations

from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files

# Where a folder stands, its other pages do.
ORDER = (
    "index.md",
    "quickstart.md",
    *(
        f"recipes/{name}.md"
        for name in ("train_df2k", "several_machines", "slurm", "finetune_escreal", "video", "export")
    ),
    "recipes",
    "guide.md",
    "options.md",
    "commands.md",
    "api/networks.md",
    "api/inference.md",
    "api",
    "experiments/index.md",
    "experiments",
    "speed.md",
    "promises.md",
)
SECTIONS = {"api": "Python"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Sort the pages; those of a folder make a section."""
    nav: list[Any] = []
    for folder, group in groupby(_pages(files), key=lambda uri: PurePosixPath(uri).parts[:-1][:1]):
        pages = [*group]
        nav += [{SECTIONS.get(name, name.capitalize()): pages} for name in folder] or pages
    config.nav = nav
    return files


def _pages(files: Files) -> list[str]:
    return sorted((file.src_uri for file in files.documentation_pages()), key=_rank)


def _rank(uri: str) -> tuple[int, str]:
    """Pages of one folder stand together whatever their place in it."""
    for name in (uri, PurePosixPath(uri).parts[0]):
        if name in ORDER:
            return ORDER.index(name), uri
    return len(ORDER), uri
