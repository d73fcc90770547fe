"""The JSON schema for editors: current, and of the same opinion as the checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lmlt_arch.options import OptionError, load_option_file, option_mistakes


@pytest.fixture(scope="module")
def validator(repo_root: Path) -> Any:
    schema = json.loads((repo_root / "options/schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_current(repo_root: Path) -> None:
    command = [sys.executable, repo_root / "scripts/generate_schema.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_option_file_passes_both(repo_root: Path, validator: Any) -> None:
    files = sorted((repo_root / "options").glob("*.yml"))
    assert files
    for path in files:
        content = load_option_file(path)
        assert option_mistakes(content) == [], path.name
        assert [error.message for error in validator.iter_errors(content)] == [], path.name


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("train:grad_clp", 0.1),
        ("scale", "four"),
        ("train:ema_decay", 1.5),
        ("train:amp", "fp8"),
        ("network_g:dmi", 3),
        ("network_g:dim", "wide"),
        ("datasets:train:use_flip", True),
        ("logger:print_freq", 0),
        ("val:save_img", "no"),
        ("num_gpu", "all"),
    ],
)
def test_both_refuse(repo_root: Path, validator: Any, place: str, value: Any) -> None:
    content = load_option_file(repo_root / "options/train_LMLT_x4.yml")
    *sections, key = place.split(":")
    part = content
    for section in sections:
        part = part[section]
    part[key] = value
    assert option_mistakes(content)
    assert not validator.is_valid(content)


def test_first_key_that_stands_twice_is_no_longer_silent(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("train:\n  total_iter: 1\n  total_iter: 2\nscale: 2\nscale: 3\n")
    assert yaml.safe_load(path.read_text())["scale"] == 3
    with pytest.raises(OptionError) as caught:
        load_option_file(path)
    assert str(caught.value).splitlines() == [
        f"{path}:3: train: total_iter: stands here twice, in lines 2 and 3; remove one of them",
        f"{path}:5: scale: stands here twice, in lines 4 and 5; remove one of them",
    ]


def test_names_are_those_of_the_degradation() -> None:
    from typing import get_args

    from realsr.degradation import options as degradation
    from realsr.degradation.jpeg import SUBSAMPLING
    from realsr.degradation.options import EXTRA_RESIZE_MODES, GAUSSIAN_KINDS, RESIZE_MODES

    assert get_args(degradation.Kernel) == tuple(GAUSSIAN_KINDS)
    assert get_args(degradation.Subsampling) == tuple(SUBSAMPLING)
    assert set(get_args(degradation.Resize)) == {*RESIZE_MODES, *EXTRA_RESIZE_MODES}
