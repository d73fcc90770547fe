"""The page of `lmlt compare --html` in a real browser: dragged, zoomed, typed at, and looked at."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.chromium import SHIFT, Chromium, find_chromium
from PIL import Image

from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.compare.comparison import Comparison, Version
from lmlt_arch.evaluation.compare.page import make_page
from lmlt_arch.evaluation.pairs import Scores

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
NAMES = ["LR (nearest)", "bicubic", "A", "B", "GT"]
SIZE = 200
needs_chromium = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium here (Debian: apt-get install chromium-headless-shell)"
)


def flat(color: tuple[int, int, int], side: int = SIZE) -> np.ndarray:
    return np.full((side, side, 3), color, np.uint8)


def comparison(name: str = "flat", *, side: int = SIZE, gain: float = 0) -> Comparison:
    """LR of black and white pixels, and a color for each version."""
    lq = np.zeros((side // 4, side // 4, 3), np.uint8)
    lq[::2, ::2] = lq[1::2, 1::2] = 255
    versions = [
        Version("bicubic", flat(RED, side), Scores(20.0, 0.5)),
        Version("A", flat(GREEN, side), Scores(30.0 + gain, 0.75)),
        Version("B", flat(YELLOW, side), Scores(29.0, 0.625)),
    ]
    return Comparison(name, 4, lq, flat(BLUE, side), versions)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    chromium = Chromium(tmp_path_factory.mktemp("profile"), width=1000, height=800)
    yield chromium
    chromium.close()


class Page:
    """A comparison opened in the browser."""

    def __init__(self, browser: Chromium, path: Path, *comparisons: Comparison) -> None:
        path.write_bytes(make_page(comparisons or [comparison()], limit=10**7))
        browser.errors.clear()
        browser.requests.clear()
        browser.open(path)
        self.browser = browser

    def divided_at(self) -> int:
        return int(self.attribute("aria-valuenow"))

    def attribute(self, name: str) -> str:
        value: str = self.browser.evaluate(f"document.querySelector('#divider').getAttribute('{name}')")
        return value

    def handle(self) -> tuple[float, float]:
        box = self.browser.box("#divider")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def zoom(self) -> int:
        return int(self.browser.evaluate("document.querySelector('#zoom').textContent").rstrip("%"))

    def colors(self, *places: tuple[float, float]) -> list[tuple[int, ...]]:
        """At places given as shares of the fitted, and so centered, 600 x 600 image."""
        shot = self.browser.screenshot()
        stage = self.browser.box("#stage")
        corner = (stage["x"] + stage["width"] / 2 - 300, stage["y"] + stage["height"] / 2 - 300)
        assert stage["height"] >= 600
        return [tuple(map(int, shot[int(corner[1] + 600 * y), int(corner[0] + 600 * x)])) for x, y in places]


@pytest.fixture
def page(browser: Chromium, tmp_path: Path) -> Page:
    page = Page(browser, tmp_path / "page.html")
    # A higher window, so that the stage has room for the image at 300 %.
    assert page.zoom() == 300
    return page


@needs_chromium
def test_page_asks_for_nothing_and_has_no_errors(page: Page) -> None:
    assert page.colors((0.25, 0.2), (0.75, 0.2)) == [RED, GREEN]
    assert page.browser.errors == []
    strangers = [url for url in page.browser.requests if not url.startswith(("file://", "data:image/"))]
    assert strangers == []


@needs_chromium
def test_dragging_the_divider_shows_more_of_the_left_version(page: Page) -> None:
    assert page.divided_at() == 50
    x, y = page.handle()
    page.browser.drag((x, y), (x + 200, y + 30))
    # 200 of 1000 pixels, which are a third of the image's 600.
    assert page.divided_at() == 70
    assert page.handle()[0] == pytest.approx(x + 200)
    assert page.colors((0.25, 0.2), (0.75, 0.2), (0.9, 0.2)) == [RED, RED, GREEN]
    page.browser.drag(page.handle(), (-50, y))
    assert page.divided_at() == 0
    assert page.colors((0.02, 0.2)) == [GREEN]


@needs_chromium
def test_the_divider_is_where_the_colors_change(page: Page) -> None:
    x, y = page.handle()
    page.browser.drag((x, y), (x - 77, y))
    row = page.browser.screenshot()[int(page.browser.box("#stage")["y"]) + 60]
    red = [int(i) for i in np.flatnonzero((row == RED).all(-1))]
    green = [int(i) for i in np.flatnonzero((row == GREEN).all(-1))]
    # The line itself, with its shadow, covers some pixels.
    assert x - 77 - 8 < red[-1] < x - 77 < green[0] < x - 77 + 8
    assert (red[0], green[-1]) == (200, 799)


@needs_chromium
def test_pressing_beside_the_divider_takes_it_there_while_all_is_seen(page: Page) -> None:
    y = page.handle()[1]
    page.browser.drag((300, y), (250, y))
    assert page.divided_at() == 25


@needs_chromium
def test_one_finger_drags_and_two_zoom(page: Page) -> None:
    x, y = page.handle()
    page.browser.touch([(x, y)], [(x - 60, y)], [(x - 150, y)])
    assert page.divided_at() == 35
    assert page.colors((0.3, 0.2)) == [GREEN]
    page.browser.touch([(450, y), (550, y)], [(420, y), (580, y)], [(400, y), (600, y)])
    assert page.zoom() == 600
    assert page.divided_at() == 35


@needs_chromium
def test_keys_move_the_divider(page: Page) -> None:
    for _ in range(3):
        page.browser.press("ArrowRight")
    assert page.divided_at() == 53
    page.browser.press("ArrowLeft", modifiers=SHIFT)
    assert page.divided_at() == 43
    page.browser.evaluate("document.querySelector('#divider').focus()")
    page.browser.press("Home")
    assert page.divided_at() == 0
    assert page.colors((0.05, 0.2)) == [GREEN]
    page.browser.press("End")
    assert page.divided_at() == 100
    assert page.colors((0.95, 0.2)) == [RED]


@needs_chromium
def test_keys_choose_versions(page: Page) -> None:
    page.browser.press("5", "Digit5")
    page.browser.press("$", "Digit4", SHIFT)
    assert page.colors((0.25, 0.2), (0.75, 0.2)) == [YELLOW, BLUE]
    page.browser.press("s", "KeyS")
    assert page.colors((0.25, 0.2), (0.75, 0.2)) == [BLUE, YELLOW]
    # There is no ninth version.
    page.browser.press("9", "Digit9")
    assert page.colors((0.25, 0.2), (0.75, 0.2)) == [BLUE, YELLOW]


@needs_chromium
def test_small_image_is_shown_pixel_by_pixel(page: Page) -> None:
    page.browser.press("1", "Digit1")
    # One pixel of 50 is 12 of the screen; the colors are not blended.
    pixels = [(0.7 + 0.02 * i + 0.01 + shift, 0.11) for i in range(3) for shift in (-0.008, 0, 0.008)]
    assert (
        page.colors(*pixels) == [BLACK] * 3 + [WHITE] * 3 + [BLACK] * 3
        or page.colors(*pixels) == [WHITE] * 3 + [BLACK] * 3 + [WHITE] * 3
    )


@needs_chromium
def test_choosing_from_the_lists(page: Page) -> None:
    lists = "[...document.querySelectorAll('#left option')].map(option => option.textContent)"
    assert page.browser.evaluate(lists) == [f"{i + 1}  {name}" for i, name in enumerate(NAMES)]
    page.browser.evaluate("document.querySelector('#right').focus()")
    page.browser.press("G", "KeyG")
    assert page.browser.evaluate("document.querySelector('#right').selectedOptions[0].value") in ("2", "4")
    page.browser.evaluate(
        "{const list = document.querySelector('#right'); list.value = 4;"
        " list.dispatchEvent(new Event('change'))}"
    )
    assert page.colors((0.75, 0.2)) == [BLUE]
    page.browser.click("#swap")
    assert page.colors((0.25, 0.2), (0.75, 0.2)) == [BLUE, RED]


@needs_chromium
def test_wheel_zooms_about_the_pointer_and_dragging_pans(browser: Chromium, tmp_path: Path) -> None:
    spotted = comparison()
    # A dot whose place on the screen can be found.
    spotted.versions[1].pixels[60:64, 114:118] = BLUE
    page = Page(browser, tmp_path / "page.html", spotted)

    def dot() -> tuple[float, float]:
        y, x = np.nonzero((browser.screenshot() == BLUE).all(-1))
        return float(x.mean()), float(y.mean())

    before = dot()
    browser.wheel(*before, -300)
    assert page.zoom() == 600
    assert dot() == pytest.approx(before, abs=2)
    x, y = before
    browser.drag((x, y), (x + 60, y - 40))
    assert dot() == pytest.approx((x + 60, y - 40), abs=2)
    assert page.divided_at() == 50
    # The divider can still be had, by its handle.
    handle = page.handle()
    browser.drag(handle, (handle[0] - 100, handle[1]))
    assert page.divided_at() == 40
    browser.click("#fit")
    assert page.zoom() == 300
    assert dot() == pytest.approx(before, abs=2)


@needs_chromium
def test_buttons_and_keys_zoom(page: Page) -> None:
    page.browser.click("#full")
    assert page.zoom() == 100
    page.browser.click("#in")
    page.browser.press("+", "NumpadAdd")
    assert page.zoom() == 156
    page.browser.click("#out")
    page.browser.press("-", "Minus")
    assert page.zoom() == 100
    page.browser.press("0", "Digit0")
    assert page.zoom() == 300


@needs_chromium
def test_several_images_have_a_picker_and_a_table(browser: Chromium, tmp_path: Path) -> None:
    second = comparison("second </script> & <b>", side=120, gain=4)
    page = Page(browser, tmp_path / "page.html", comparison(), second)
    cells = "[...document.querySelectorAll('tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    assert browser.evaluate(cells) == [
        ["image", "bicubic", "A", "B"],
        ["flat", "20.00 / 0.5000", "30.00 / 0.7500", "29.00 / 0.6250"],
        [second.name, "20.00 / 0.5000", "34.00 / 0.7500", "29.00 / 0.6250"],
        ["mean", "20.00 / 0.5000", "32.00 / 0.7500", "29.00 / 0.6250"],
    ]
    best = "[...document.querySelectorAll('.best')].map(cell => cell.cellIndex)"
    assert browser.evaluate(best) == [2, 2, 2]
    browser.click("#next")
    assert browser.evaluate("document.querySelector('#about').textContent").startswith(second.name)
    assert browser.evaluate("document.querySelector('tr.shown').cells[0].textContent") == second.name
    assert page.zoom() >= 400
    browser.press("n", "KeyN")
    assert browser.evaluate("document.querySelector('#about').textContent").startswith("flat: 200 x 200")
    assert browser.errors == []


@needs_chromium
def test_what_assistive_technology_sees(page: Page) -> None:
    tree: list[dict[str, Any]] = page.browser.call("Accessibility.getFullAXTree")["nodes"]
    seen = {(node["role"]["value"], node.get("name", {}).get("value")) for node in tree if "role" in node}
    assert ("slider", "Divider between bicubic and A") in seen
    assert {("button", "Zoom in"), ("button", "Swap left and right"), ("combobox", "Left")} <= seen
    (slider,) = (node for node in tree if node.get("role", {}).get("value") == "slider")
    assert slider["value"]["value"] in (50, "50% bicubic, 50% A")
    assert page.attribute("aria-valuetext") == "50% bicubic, 50% A"
    for _ in range(20):
        page.browser.press("Tab")
        if page.browser.evaluate("document.activeElement.id") == "divider":
            break
    assert page.browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.browser.evaluate("document.activeElement.id") == "divider"


def embedded(page: bytes) -> list[Image.Image]:
    sources = re.findall(rb"data:image/\w+;base64,([\w+/=]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(source))) for source in sources]


def test_images_are_embedded_as_they_are() -> None:
    given = comparison()
    pictures = embedded(make_page([given], limit=10**7))
    assert [picture.format for picture in pictures] == ["PNG"] * 5
    expected = [given.lq, *(version.pixels for version in given.versions), given.gt]
    for picture, pixels in zip(pictures, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_large_pages_fall_back_to_jpeg_and_then_refuse() -> None:
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    noisy = Comparison("noise", 1, noise, None, [Version("bicubic", noise, None)])
    lossless = make_page([noisy], limit=10**6)
    page = make_page([noisy], limit=len(lossless) - 1)
    assert len(page) < len(lossless)
    assert [picture.format for picture in embedded(page)] == ["JPEG"] * 2
    assert b'"encoding": "JPEG, quality 95"' in page
    with pytest.raises(
        UsageError, match=r"the page would have 1 MB, over the limit of 0.02 MB: .*--html-limit"
    ):
        make_page([noisy], limit=20_000)


def test_names_cannot_break_out_of_the_page() -> None:
    evil = "</script><script>alert(1)</script>"
    page = make_page([comparison(evil)], limit=10**7).decode()
    assert "<script>alert" not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None and json.loads(data[1])["images"][0]["name"] == evil


def test_equal_images_have_infinite_psnr_in_a_valid_page() -> None:
    same = comparison()
    same.versions[0] = Version("bicubic", same.versions[0].pixels, Scores(float("inf"), 1.0))
    assert b'"psnr": "inf"' in make_page([same], limit=10**7)
