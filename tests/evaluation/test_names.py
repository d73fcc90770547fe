"""Names of files, datasets and networks are data wherever they are printed."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmlt_arch.evaluation.benchmark.datasets import Dataset, Item
from lmlt_arch.evaluation.benchmark.run import Result, Row
from lmlt_arch.evaluation.benchmark.tables import to_csv, to_json, to_markdown
from lmlt_arch.evaluation.compare.comparison import Comparison, Version
from lmlt_arch.evaluation.compare.page import make_page
from lmlt_arch.evaluation.figures import new_figure, to_png
from lmlt_arch.evaluation.markdown import cell, paragraph, table
from lmlt_arch.spreadsheets import as_text

NAMES = [
    "{{data}}",
    "{{title}}",
    "{{x}}",
    "</script><script>alert(1)</script>",
    "</title>",
    "<!--<script>",
    "${x} `${1}`",
    "\"'&amp;\\",
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "a|b\\|c",
    "`c` *i* _e_ ~~s~~ [l](u) ![p](u) <b> &lt; http",
    "a\nb\r\n| c |",
    "# h",
    "1. l",
    "\u2028\u202e\x1b[31m\0",
    "\udcff",
]


@pytest.mark.parametrize("name", NAMES)
def test_in_a_page(name: str) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    versions = [Version(name, pixels, None)]
    page = make_page([Comparison(name, 2, pixels[:4, :4], None, versions)], limit=10**7).decode()
    plain = make_page([Comparison("x", 2, pixels[:4, :4], None, versions)], limit=10**7).decode()
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    (image,) = json.loads(data)["images"]
    assert (image["name"], image["versions"][1]["name"]) == (name, name)
    title = page.partition("<title>")[2].partition("</title>")[0]
    assert html.unescape(title) == name.replace("\udcff", "?")
    for tag in ("<script", "</script", "<title", "<!--"):
        assert page.count(tag) == plain.count(tag)


def _results(name: str) -> list[Result]:
    data = Dataset(name, 2, [Item(name, Path("gt"), None), Item("plain", Path("gt"), None)])
    values = {"psnr": -30.5, "ssim": float("-inf")}
    return [Result(data, [Row(name, None, [values, values])])]


@pytest.mark.parametrize("name", NAMES)
def test_in_tables(name: str) -> None:
    results = _results(name)
    rows = [*csv.reader(io.StringIO(to_csv(results), newline=""))]
    assert len(rows) == 4
    formula = name[0] in "=+-@\t"
    for text in (rows[1][0], rows[1][2], rows[1][3]):
        assert text == (f"'{name}" if formula else name)
    assert rows[1][4:] == ["-30.500000", "-inf"]  # figures stay figures
    assert json.loads(to_json(results, {}))["results"][0]["network"] == name
    lines = to_markdown(results, {}).encode().decode().splitlines()
    assert sum(line.startswith("|") for line in lines) == 3 + 4
    bars = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines if line.startswith("|")]
    assert bars == [5] * 3 + [3] * 4


@pytest.mark.parametrize("name", NAMES)
def test_rendered(name: str) -> None:
    """By the renderer of the pages of this project."""
    markdown = pytest.importorskip("markdown")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    page = markdown.markdown(f"{table(['a', 'b'], [[name, name]])}\n", extensions=["tables"])
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)
    assert len(cells) == 2
    for text in cells:
        assert "<" not in text  # nothing became an element
        # The renderer at hand keeps some of the backslashes that others drop.
        assert html.unescape(text).replace("\\", "") == shown.strip().replace("\\", "")
    assert "<h1>" not in markdown.markdown(paragraph(name))
    assert "<li>" not in markdown.markdown(paragraph(name))


@pytest.mark.parametrize("name", ["LMLT-T_x4 (8)", "0001x4.png", "a-b_c", "PSNR ↑", "34.1 / 0.9 [1]", "+0.5"])
def test_usual_names_are_left_alone(name: str) -> None:
    assert cell(name) == name
    assert as_text(name) == name


@pytest.mark.parametrize(("text", "shown"), [("-1", "-1"), ("+1e5", "+1e5"), ("-inf", "-inf"), ("-a", "'-a")])
def test_numbers_are_no_formulas(text: str, shown: str) -> None:
    assert as_text(text) == shown


@pytest.mark.parametrize("name", ["$", "$x^$", "$\\frac$ a_b", "100 $ or $$"])
def test_in_figures(name: str) -> None:
    """Dollars are no formulas; the powers of ten at an axis still are."""
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.plot([1, 10**6], [1, 10**6], label=name)
    axes.set(title=name, xlabel=name, yscale="log")
    axes.set_xticks([1, 10**6], [name, name])
    axes.legend()
    assert Image.open(io.BytesIO(to_png(figure, dpi=40))).size == (120, 80)


def test_no_name_of_a_module_is_needed_for_tables() -> None:
    """`realsr` and the tables share one rule that imports nothing."""
    code = "import sys; import lmlt_arch.spreadsheets; assert 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
