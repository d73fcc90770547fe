"""Files that the documentation names in backticks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md"))]
NAMED = re.compile(r"`((?:basicsr|docs|lmlt_arch|realsr|scripts|tests)/[\w./-]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_they_exist(page: str) -> None:
    named = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    # What a checkout of BasicSR has is not here.
    gone = [name for name in named if not (ROOT / name).exists() and not name.startswith("basicsr/")]
    assert gone == []


def test_sees_what_is_gone() -> None:
    assert NAMED.findall("Run `scripts/none.py` or `pip`, see `docs/x/y.md`.") == [
        "scripts/none.py",
        "docs/x/y.md",
    ]
