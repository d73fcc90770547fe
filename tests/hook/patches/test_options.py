"""Patches for option files: defaults, prefetching without a GPU, lists of folders."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.stock_modules import patch, run_afresh

Parse = Callable[..., dict[str, Any]]


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parse:
    def parse(names: dict[str, Any], model_type: str, **train: Any) -> dict[str, Any]:
        opt = {
            "name": "tiny",
            "model_type": model_type,
            "num_gpu": 0,
            "datasets": {"train": {"type": "PairedImageDataset", "meta_info_file": None, **train}},
            "path": {},
            "logger": {"print_freq": 1},
            "val": {"save_img": True},
        }
        (tmp_path / "tiny.yml").write_text(yaml.safe_dump(opt))
        monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(tmp_path / "tiny.yml")])
        options: dict[str, Any] = names["parse_options"](str(tmp_path), is_train=True)[0]
        return options

    return parse


def test_defaults_that_basicsr_lacks(parse: Parse) -> None:
    names = run_afresh("basicsr.utils.options")
    stock = parse(names, "SRModel")
    assert "use_tb_logger" not in stock["logger"]
    storage = {"type": "disk", "lock": False, "db_paths": None}
    patch("defaults-that-basicsr-lacks", names)
    assert {**parse(names, "SRModel"), "manual_seed": 0} == {**stock, "manual_seed": 0}, "not ours"
    opt = parse(names, "LMLTModel", use_rot=True, io_backend=storage)
    assert opt["logger"] == {"print_freq": 1, "use_tb_logger": False}
    assert opt["val"] == {"save_img": True, "suffix": None}
    train = opt["datasets"]["train"]
    assert (train["use_hflip"], train["use_rot"]) == (False, True)
    assert train["io_backend"] == {"type": "disk"}
    assert "meta_info_file" not in train


@pytest.mark.parametrize("model_type", ["SRModel", "LMLTModel"])
def test_prefetch_without_a_gpu(
    parse: Parse, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, model_type: str
) -> None:
    names = run_afresh("basicsr.utils.options")
    patch("prefetch-without-a-gpu", names)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parse(names, model_type, prefetch_mode="cuda")["datasets"]["train"]["prefetch_mode"] == "cpu"
    assert [str(each.message) for each in recwarn if "prefetch_mode: cuda" in str(each.message)] == [
        "prefetch_mode: cuda needs a GPU, and this run has none: prefetching on the CPU."
    ]
    assert parse(names, model_type, prefetch_mode=None)["datasets"]["train"]["prefetch_mode"] is None
    # `num_gpu: 0` where there are some: stock code can do that, and is left to it.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    left = parse(names, model_type, prefetch_mode="cuda")["datasets"]["train"]["prefetch_mode"]
    assert left == ("cuda" if model_type == "SRModel" else "cpu")


def test_lists_of_folders(parsed: Parse, tmp_path: Path) -> None:
    names = run_afresh("basicsr.utils.options")
    path = tmp_path / "tiny.yml"
    path.write_text(path.read_text().replace("datasets: {}", "datasets: {test: {dataroot_gt: [~/a, b]}}"))
    path.write_text(path.read_text() + "scale: 2\n")
    with pytest.raises(TypeError):
        parsed(names)
    patch("lists-of-folders", names)
    assert parsed(names)["datasets"]["test"]["dataroot_gt"] == [str(Path.home() / "a"), "b"]
