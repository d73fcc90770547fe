"""The pages: nothing is missing from those that are generated, and a strict build refuses what is broken."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from pydantic import BaseModel

from lmlt_arch.cli import build_parser
from lmlt_arch.names import PROVIDED
from lmlt_arch.options import Options

Rows = dict[str, list[str]]


def hook(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, root / f"scripts/site/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables(repo_root: Path) -> dict[str, Rows]:
    """Heading -> key -> type, default, meaning."""
    found: dict[str, Rows] = {}
    for part in re.split(r"^#+ ", hook(repo_root, "options_page").content(), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
        found[heading.strip("`")] = {key.strip("`"): cells for key, *cells in rows}
    return found


def sections(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every typed section and its place, found without the schema."""
    yield place.strip() or "Top of the file", model
    for key, value in model.model_fields.items():
        for kind in _leaves(value.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and {*kind.model_fields} != {"type"}:
                name = "NAME: " if "dict[" in str(value.annotation) else ""
                yield from sections(kind, f"{place}{key}: {name}")


def _leaves(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    yield from (leaf for one in inner for leaf in _leaves(one)) if inner else (annotation,)


def test_every_option_key_is_there_with_type_default_and_meaning(tables: dict[str, Rows]) -> None:
    places = [*sections(Options)]
    assert {"train: gradient_penalty:", "datasets: NAME: io_backend:", "val: metrics: NAME:"} < {
        place for place, _ in places
    }
    for place, model in places:
        assert {*tables[place]} == {*model.model_fields}, place
        for key, value in model.model_fields.items():
            kind, default, meaning = tables[place][key]
            assert kind and meaning, (place, key)
            if value.is_required():
                assert default == "*required*", (place, key)
            elif value.default is None:
                assert default == "*none*", (place, key)
            else:
                assert default.strip("`") in (str(value.default), json.dumps(value.default)), (place, key)


def test_types_and_bounds_read_well(tables: dict[str, Rows]) -> None:
    train, top = tables["train:"], tables["Top of the file"]
    assert train["ema_decay"][:2] == ["number ≥ 0, < 1", "`0.0`"]
    assert train["amp"][0] == "`bf16` or `fp16`"
    assert train["freeze"][:2] == ["list of text", "`[]`"]
    assert top["num_gpu"][0] == "`auto` or whole number ≥ 0, ≤ 1024"
    assert top["resize_range"][0] == "list of numbers"
    assert tables["datasets: NAME:"]["sinc_prob"][0] == "number ≥ 0, ≤ 1"


def test_every_argument_of_every_network_is_there(tables: dict[str, Rows]) -> None:
    for name, module in PROVIDED["ARCH_REGISTRY"].items():
        parameters = inspect.signature(getattr(import_module(module), name)).parameters
        assert {*tables[name]} == {*parameters}, name
        assert all(meaning for _, _, meaning in tables[name].values()), name


def test_every_subcommand_is_there(repo_root: Path) -> None:
    page = hook(repo_root, "commands_page").content()
    (names,) = (action.choices for action in build_parser()._actions if action.dest == "command")
    assert names is not None
    assert re.findall(r"^## lmlt (.*)$", page, flags=re.MULTILINE) == [*names]
    assert "--outscale X" in page


def test_every_experiment_shows_its_run(repo_root: Path) -> None:
    for page in (repo_root / "docs/experiments").glob("*.md"):
        if page.stem != "index":
            assert json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
            assert f"]({page.stem}.png)" in page.read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small documentation in which nothing is wrong."""
    (tmp_path / "docs/experiments").mkdir(parents=True)
    for name, text in {
        "README.md": "# Name\n\nSee [pages](docs/index.md).\n\n## Use\n\n## Registered names\n",
        "docs/index.md": "# B\n\n[C](../README.md#use), [E](options.md#train), [D](experiments/index.md)\n",
        "docs/experiments/index.md": "# All\n",
        "docs/experiments/reach.md": "# How far?\n\nFar, see [use](../../README.md#use).\n",
        "docs/later.md": "# Later\n\nNobody named this page.\n",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def build_strictly(repo_root: Path, project: Path) -> Path:
    """The folder with the pages."""
    site = project / "site"
    folders = {"docs_dir": str(project / "docs"), "site_dir": str(site)}
    config = load_config(str(repo_root / "mkdocs.yml"), strict=True, **folders)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return site


def test_finds_pages_by_itself(repo_root: Path, project: Path) -> None:
    site = build_strictly(repo_root, project)
    order = [
        (site / "index.html").read_text(encoding="utf-8").index(f'href="{page}.html"')
        for page in ("guide", "options", "commands", "experiments/index", "experiments/reach", "later")
    ]
    assert order == sorted(order)
    assert 'href="../guide.html#use"' in (site / "experiments/reach.html").read_text(encoding="utf-8")
    assert 'href="index.html"' in (site / "guide.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[nowhere](nowhere.md)", "nowhere.md"),
        ("[no such heading](options.md#trian)", "#trian"),
        ("[no such heading](../README.md#abuse)", "#abuse"),
        ("![no such picture](images/none.png)", "images/none.png"),
        ("![from elsewhere](https://example.org/a.png)", "loads https://example.org/a.png from elsewhere"),
        ('<script src="//example.org/a.js"></script>', "loads //example.org/a.js from elsewhere"),
        ("::: lmlt_arch.no_such_module", "lmlt_arch.no_such_module could not be found"),
    ],
)
def test_refuses(
    text: str, named: str, repo_root: Path, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (project / "docs/later.md").write_text(f"# Later\n\n{text}\n", encoding="utf-8")
    with pytest.raises(Abort):
        build_strictly(repo_root, project)
    assert named in caplog.text
