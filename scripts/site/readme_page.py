"""The README as a page of the site, so that nothing is written twice.

Pages link to it as readers of the repository do (`../README.md#upscale`), and it to pages (`docs/index.md`).
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGE = "guide.md"
_LINK = re.compile(r"(?<=\]\()(?:\.\./)+README\.md(?=[#)])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    text = (Path(config.docs_dir).parent / "README.md").read_text(encoding="utf-8")
    title, body = text.split("\n", 1)
    if not title.startswith("# "):
        raise ValueError("README.md has no title in its first line")
    files.append(File.generated(config, PAGE, content="# Guide\n" + body.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to the README lead to that page."""
    return _LINK.sub(relpath(PAGE, Path(page.file.src_uri).parent.as_posix()), markdown)
