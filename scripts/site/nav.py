"""The navigation: known pages in the order of a reader's way, then whatever else lies in `docs/`."""

import re
from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

ORDER = (
    "index.md",
    "quickstart.md",
    "recipes",
    "guide.md",
    "options.md",
    "commands.md",
    "api",
    "experiments",
)
SECTIONS = {"api": "Python"}
LISTED = "<!-- the pages of this folder -->"
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Sort the pages; those of a folder make a section."""
    found: dict[str, list[str]] = {}
    for uri in sorted(files.src_uris, key=_index_first):
        if files.src_uris[uri].is_documentation_page():
            found.setdefault(PurePosixPath(uri).parts[0], []).append(uri)
    nav: list[Any] = []
    for name in sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        pages = found[name]
        nav.append(name if pages == [name] else {SECTIONS.get(name, name.capitalize()): pages})
    config.nav = nav
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put a list of the other pages of its folder where a page asks for it."""
    if LISTED not in markdown:
        return markdown
    here = PurePosixPath(page.file.src_uri)
    lines = []
    for uri in sorted(files.src_uris):
        file = files.src_uris[uri]
        if PurePosixPath(uri).parent == here.parent and uri != str(here) and file.is_documentation_page():
            title = _TITLE.search(file.content_string)
            lines.append(f"- [{title[1] if title else PurePosixPath(uri).stem}]({PurePosixPath(uri).name})")
    return markdown.replace(LISTED, "\n".join(lines))


def _index_first(uri: str) -> tuple[str, bool, str]:
    path = PurePosixPath(uri)
    return path.parent.as_posix(), path.name != "index.md", path.name
