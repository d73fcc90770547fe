"""What the check accepts trains an iteration: option files broken at random, through BasicSR's own pipeline.

LMLT_FUZZ=500 tries so many, at random; without it, the same few are tried every time.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.broken_options import breakages
from helpers.small.options import paired_options, photo_options
from hypothesis import HealthCheck, assume, given, settings

from basicsr import train as pipeline
from lmlt_arch.check.batch import first_batch
from lmlt_arch.check.data import data_findings
from lmlt_arch.models.plugin_model import PluginModel
from lmlt_arch.options import file_mistakes, option_mistakes
from lmlt_arch.options.total_batch import Launch

MANY = int(os.environ.get("LMLT_FUZZ", "0"))
DATA = Path(tempfile.mkdtemp(prefix="lmlt_options_"))


def one_iteration(opt: dict[str, Any]) -> dict[str, Any]:
    opt["train"] |= {"total_iter": 1}
    opt["val"] |= {"val_freq": 1, "suffix": None}
    opt["logger"] |= {"use_tb_logger": False, "save_checkpoint_freq": 1}
    return opt


FILES = {
    "pairs": one_iteration(paired_options(DATA / "pairs")),
    "photos": one_iteration(photo_options(DATA / "photos")),
}


class EnoughError(Exception):
    """An iteration was trained."""


@pytest.fixture(autouse=True, scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder to run in, and at most two iterations of each run; whatever runs set is set back."""
    step, before = PluginModel.optimize_parameters, Path.cwd()

    def optimize_parameters(self: Any, current_iter: int) -> None:
        if current_iter > 1:
            raise EnoughError
        step(self, current_iter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginModel, "optimize_parameters", optimize_parameters)
        patch.setenv("HOME", str(DATA))
        patch.chdir(tmp_path_factory.mktemp("run"))
        yield
    os.chdir(before)
    torch.use_deterministic_algorithms(False)


def accepted(content: dict[str, Any]) -> bool:
    """As `lmlt check` sees it."""
    if option_mistakes(content, is_train=True) or file_mistakes(content):
        return False
    if [m for m in data_findings(content, Launch(), everything=True) if not m.is_note]:
        return False
    try:
        first_batch(copy.deepcopy(content))
    except Exception:  # named by the check
        return False
    return True


def too_dear(content: dict[str, Any]) -> bool:
    """What would start processes, compile or wait, and is tested elsewhere."""
    train, data = content["train"], content["datasets"]["train"]
    pause = (
        data.get("num_worker_per_gpu", 0) or train.get("compile") or content["logger"].get("use_tb_logger")
    )
    return bool(pause) or not str(content["model_type"]).startswith(
        ("LMLT", "ESC", "ESR", "RealHAT", "Arbitrary")
    )


def train(content: dict[str, Any]) -> None:
    shutil.rmtree("experiments", ignore_errors=True)
    path = Path("options.yml")
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    kept = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(sys, "argv", ["train.py", "-opt", str(path)])
        try:
            pipeline.train_pipeline(str(Path.cwd()))
        except EnoughError:
            pass
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
            torch.set_rng_state(kept[2])
            torch.use_deterministic_algorithms(False)


@settings(
    max_examples=MANY or 20,
    derandomize=not MANY,
    database=None,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)
@given(breakages(FILES, most=2))
def test_what_is_accepted_trains(broken: tuple[str, dict[str, Any]]) -> None:
    content = broken[1]
    assume(accepted(content))
    assume(not too_dear(content))
    train(content)


@pytest.mark.parametrize("name", [*FILES])
def test_unbroken_files_train(name: str) -> None:
    content = copy.deepcopy(FILES[name])
    assert accepted(content)
    train(content)
