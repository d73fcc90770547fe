"""Warn, and so fail a strict build, where a page would load anything from elsewhere."""

from __future__ import annotations

import logging
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

_LOADS = re.compile(
    r"<(?:script|img|iframe|source|video|link)\b[^>]*?\s(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)"
)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Look at a page as it will be written."""
    for address in _LOADS.findall(output):
        logging.getLogger("mkdocs.site").warning("%s loads %s from elsewhere", page.file.src_uri, address)
    return output
