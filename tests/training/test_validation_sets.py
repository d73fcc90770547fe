"""Validation sets through BasicSR's pipelines: none, several, and several of one name."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.small.runs import Run, small

from lmlt_arch.data.listing import DatasetError
from lmlt_arch.options import OptionError


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("basicsr")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "basicsr")
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def options(repo_root: Path, data: Path) -> Any:
    def options(name: str, **second: Any) -> dict[str, Any]:
        opt = small(yaml.safe_load((repo_root / "options" / f"{name}.yml").read_text()), data)
        opt["logger"] = {"print_freq": 1, "save_checkpoint_freq": 100}
        if second:
            opt["datasets"]["val_2"] = {**copy.deepcopy(opt["datasets"]["val"]), **second}
        return opt

    return options


@pytest.mark.parametrize("emptied", ["both", "lq"])
def test_an_empty_folder_is_an_error_at_the_start(
    options: Any, run: Run, tmp_path: Path, log: pytest.LogCaptureFixture, emptied: str
) -> None:
    empty = {key: str(tmp_path / key) for key in ("dataroot_gt", "dataroot_lq")}
    for folder in empty.values():
        Path(folder).mkdir()
    (Path(empty["dataroot_lq"]) / "Thumbs.db").write_bytes(b"not an image")
    if emptied == "lq":
        del empty["dataroot_gt"]
    else:
        (Path(empty["dataroot_lq"]) / "Thumbs.db").unlink()
    opt = options("train_LMLT_tiny_x2")
    opt["datasets"]["val"] |= empty
    with pytest.raises(DatasetError, match=r"there are no images in .*dataroot_"):
        run("train", opt)
    assert "Start training" not in log.text
    opt = options("test_LMLT_tiny_x2")
    opt["datasets"] = {"test_1": {**opt["datasets"]["test_1"], **empty}}
    with pytest.raises(DatasetError, match=r"there are no images in .*dataroot_"):
        run("test", opt)


def test_two_sets_have_bests_of_their_own_and_no_false_warning(
    options: Any, run: Run, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "list.txt").write_text("a.png\n")
    opt = options("train_LMLT_tiny_x2", meta_info_file=str(tmp_path / "list.txt"))
    opt["datasets"]["val_2"]["name"] = "first"
    opt["val"]["metrics"] = {"psnr": {**opt["val"]["metrics"]["psnr"], "test_y_channel": False}}
    run("train", opt)
    said = [each.getMessage() for each in log.records]
    values = set()
    for name in (opt["datasets"]["val"]["name"], "first"):
        (first, *_) = [text.split() for text in said if text.startswith(f"Validation {name}")]
        value = first[first.index("psnr:") + 1]
        assert f"Best: {value} @ 1" in " ".join(first)
        values.add(value)
    assert len(values) == 2
    assert "Multiple validation datasets" not in log.text
    gc.collect()  # the model of this training, which refers to itself
    logging.getLogger("basicsr").warning("Multiple validation datasets are *only* supported by SRModel.")
    assert "Multiple validation datasets" in log.text, "of other models"


def test_two_sets_of_one_name_are_refused(options: Any, run: Run) -> None:
    opt = options("train_LMLT_tiny_x2", use_hflip=False)
    with pytest.raises((OptionError, SystemExit), match=r"val_2: name: .* is the name of val too"):
        run("train", opt)
