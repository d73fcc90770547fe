"""`--force_yml` gives values and is no program: for our models, for those of others, and in every release."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from basicsr.utils import options as stock

from lmlt_arch.errors import USAGE
from lmlt_arch.hook import patching
from lmlt_arch.hook.patches.options import _runs_code

PATCH = "forced-values-are-data"
PLAIN = ["[1, 2e-4, -3, +4]", "[None, True, 'a', \"b\"]", "[]", "[[1], (2, 3)]", "[{'a': 1}]", "[1],[2]"]
TEXTS = {"~": None, "none": None, "True": True, "false": False, "5": 5, "0.5": 0.5, "!!float 1e-4": 1e-4}
TEXTS |= {"1e-4": "1e-4", "-1": "-1", "a b": "a b", "{a: 1}": "{a: 1}", "f()": "f()"}
YAML: list[tuple[str, list[Any]]] = [
    ("[a, b]", ["a", "b"]),
    ("[true, ~, 1.5]", [True, None, 1.5]),
    ("[img-a.png, /x/y]", ["img-a.png", "/x/y"]),
]
CODE = [
    "[__import__('os').mkdir('ran')]",
    "[open('ran', 'w')]",
    "[[].append(__import__('os').mkdir('ran'))]",
    "[__import__('os').mkdir(a) for a in ('ran',)]",
    "[f\"{__import__('os').mkdir('ran')}\"]",
    "[(lambda: __import__('os').mkdir('ran'))()]",
    "[2 * 3]",
    "[a",
    "[" * 400,
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_lists_are_what_they_were(text: str) -> None:
    assert PATCH in patching.applied
    assert stock._postprocess_yml_value(text) == eval(text)


@pytest.mark.parametrize(("text", "value"), TEXTS.items())
def test_what_is_no_list_is_left_to_basicsr(text: str, value: object) -> None:
    found = stock._postprocess_yml_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("text", "value"), YAML)
def test_other_lists_are_yaml(text: str, value: list[Any]) -> None:
    assert stock._postprocess_yml_value(text) == value


@pytest.fixture
def parsed(
    options: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """What `parse_options` makes of an option file, of our model or of BasicSR's own, and forced values."""
    text = options().read_text()

    def parsed(model: str, *forced: str) -> Any:
        path = tmp_path / f"{model}.yml"
        path.write_text(text.replace("SRModel", model).replace("  fft_opt:", "  # fft_opt:"))
        monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(path), "--force_yml", *forced])
        return stock.parse_options(str(tmp_path), is_train=True)[0]

    monkeypatch.chdir(tmp_path)
    return parsed


@pytest.mark.parametrize("model", ["SRModel", "LMLTModel"])
@pytest.mark.parametrize("text", CODE)
def test_code_is_refused(parsed: Callable[..., Any], tmp_path: Path, model: str, text: str) -> None:
    with pytest.raises(SystemExit, match="is no list of plain values, and no code is run") as ended:
        parsed(model, f"train:total_iter={text}")
    assert ended.value.code == USAGE
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "key",
    [
        "name\"];__import__('os').mkdir('ran');opt[\"name",
        "name\"] and __import__('os').mkdir('ran') or opt[\"name",
        "train:a\"][__import__('os').mkdir('ran')or\"b",
        'a"]["b',
    ],
)
def test_keys_are_no_code(parsed: Callable[..., Any], tmp_path: Path, key: str) -> None:
    with pytest.raises((SystemExit, KeyError)):
        parsed("SRModel", f"{key}=1")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("model", ["SRModel", "LMLTModel"])
def test_values_reach_their_places(parsed: Callable[..., Any], model: str) -> None:
    opt = parsed(model, "name=other", "train:scheduler:milestones=[1, 2]", "val:save_img=true")
    assert (opt["name"], opt["train"]["scheduler"]["milestones"]) == ("other", [1, 2])
    assert opt["val"]["save_img"] is True


def test_numbers_that_are_none(parsed: Callable[..., Any]) -> None:
    with pytest.raises(SystemExit, match="--force_yml scale=!!float abc: could not convert"):
        parsed("LMLTModel", "scale=!!float abc")


def test_a_release_that_runs_nothing_is_left_alone() -> None:
    def parse_options(root_path: str) -> int:
        return len(root_path)

    names = {"parse_options": parse_options}
    assert not _runs_code(names)
    patching.after("basicsr.utils.options", names)
    assert "eval" not in names


@pytest.mark.parametrize("named", ["[LMLTModel]", "{a: b}", "~"])
def test_a_model_type_that_is_no_name(parsed: Callable[..., Any], tmp_path: Path, named: str) -> None:
    with pytest.raises(SystemExit, match=r"model_type: must (be text|not be empty)"):
        parsed(named, "scale=2")
    assert not (tmp_path / "experiments").exists()
