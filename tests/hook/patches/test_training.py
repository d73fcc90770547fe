"""Patches for training: stock code's failure, and the result."""

# mypy: allow-subclassing-any
from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.utils.registry import MODEL_REGISTRY
from helpers.small.sets import flip, write_set
from helpers.stock_modules import patch, run_afresh
from torch.utils.data import DataLoader

from lmlt_arch.checkpoints.load import CheckpointError
from lmlt_arch.data.datasets.training_order import EpochLoader, TrainingOrder
from lmlt_arch.data.images import encode_png
from lmlt_arch.data.lmdb.store import raw_entry, raw_sizes, write_entries
from lmlt_arch.hook.patches import training
from lmlt_arch.models import ESCModel

Parse = Callable[..., dict[str, Any]]
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a fault of machines without a GPU")


def test_pipeline_that_runs_as_main(parsed: Parse) -> None:
    names = run_afresh("basicsr.utils.options")
    main = {**run_afresh("basicsr.train"), "__name__": "__main__", "__package__": None}
    stock = main["load_resume_state"]
    exec("def begin(*args, **kwargs):\n    return parse_options(*args, **kwargs)", main)

    def start() -> object:
        main["parse_options"] = names["parse_options"]
        parsed({"parse_options": main["begin"]})
        return main["load_resume_state"]

    assert start() is stock
    patch("pipeline-that-runs-as-main", names)
    assert start() is not stock
    once = main["load_resume_state"]
    assert start() is once


def test_label_of_last_validation() -> None:
    names = run_afresh("basicsr.models.base_model")

    stock: Any = names["BaseModel"]

    class Model(stock):
        """A model whose validation notes its label."""

        def nondist_validation(self, loader: object, current_iter: object, *args: object) -> None:
            self.label = current_iter

    options = {"num_gpu": 0, "is_train": True, "dist": False, "train": {"total_iter": 4}}
    model = Model(options)
    model.validation(None, 6, None)
    assert model.label == 6
    patch("label-of-last-validation", names)
    model.validation(None, 6, None)
    assert model.label == 6, "of another model"
    model = Model({**options, "lmlt": {"mends": ["label-of-last-validation"]}})
    for given, noted in ((6, 4), (3, 3), ("a test", "a test")):
        model.validation(None, given, None)
        assert model.label == noted


def _resume_options(states: Path, **path: object) -> dict[str, Any]:
    return {
        "auto_resume": not path,
        "name": "tiny",
        "model_type": "ESCModel",
        "network_g": {},
        "network_d": {},
        "rank": 0,
        "dist": False,
        "path": {
            "training_states": str(states),
            "models": str(states.parent / "models"),
            "resume_state": None,
            **path,
        },
    }


@pytest.fixture
def states(tmp_path: Path) -> Path:
    run = tmp_path / "elsewhere" / "experiments" / "tiny"
    for iteration in (8, 20, 100):
        write_set(run, iteration, manifest=iteration != 8)
    (run / "training_states" / "latest.state").touch()
    return run / "training_states"


@no_gpu
def test_resume_without_gpu(states: Path) -> None:
    names = run_afresh("basicsr.train")
    options = _resume_options(states, resume_state=str(states / "20.state"))
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
        names["load_resume_state"](options)
    patch("resume-without-gpu", names)
    assert names["load_resume_state"](options)["iter"] == 20


@no_gpu
def test_auto_resume_where_runs_are_written(states: Path) -> None:
    names = run_afresh("basicsr.train")
    patch("resume-without-gpu", names)
    assert names["load_resume_state"](_resume_options(states)) is None
    patch("auto-resume-where-runs-are-written", names)
    assert names["load_resume_state"]({**_resume_options(states), "model_type": "SRModel"}) is None
    options = _resume_options(states)
    assert names["load_resume_state"](options)["iter"] == 100
    assert options["path"]["resume_state"] == str(states / "100.state")
    assert options["auto_resume"]

    whole = (states / "100.state").read_bytes()
    (states / "100.state").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"100.state: damaged: .* Going on from .*20.state") as warned:
        assert names["load_resume_state"](_resume_options(states))["iter"] == 20
    assert len(warned) == 1
    (states.parent / "models" / "net_d_20.pth").unlink()
    with pytest.warns(UserWarning, match=r"100.state: damaged: .*net_d_20.pth is missing"):
        assert names["load_resume_state"](_resume_options(states))["iter"] == 8
    (states / "8.state").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole: .* to start over"):
        names["load_resume_state"](_resume_options(states))
    write_set(states.parent, 8)
    assert names["load_resume_state"](_resume_options(states.parent)) is None
    asked = _resume_options(states, resume_state=str(states / "8.state"))
    assert names["load_resume_state"](asked)["iter"] == 8


@no_gpu
def test_damaged_checkpoints_to_resume_from(states: Path) -> None:
    names = run_afresh("basicsr.train")
    patch("resume-without-gpu", names)
    given = str(states / "100.state")
    flip(states.parent / "models" / "net_g_100.pth")
    assert names["load_resume_state"](_resume_options(states, resume_state=given))["iter"] == 100
    patch("damaged-checkpoints-to-resume-from", names)
    of_another = {**_resume_options(states, resume_state=given), "model_type": "SRModel"}
    assert names["load_resume_state"](of_another)["iter"] == 100
    with pytest.raises(CheckpointError, match=r"net_g_100.pth: damaged: .* resume from .*20.state, which is"):
        names["load_resume_state"](_resume_options(states, resume_state=given))
    whole = _resume_options(states, resume_state=str(states / "20.state"))
    assert names["load_resume_state"](whole)["iter"] == 20
    assert names["load_resume_state"]({**_resume_options(states), "auto_resume": False}) is None


def test_fft_loss_of_sr_model(caplog: pytest.LogCaptureFixture) -> None:
    names = run_afresh("basicsr.models")
    asked: list[str] = []
    names["build_model"] = lambda opt: asked.append(opt["model_type"])
    options = {"model_type": "SRModel", "train": {"fft_opt": {"type": "FFTLoss"}}}
    names["build_model"](options)
    assert asked.pop() == "SRModel"
    patch("fft-loss-of-sr-model", names)
    names["build_model"](options)
    assert asked.pop() == "LMLTModel"
    assert options["model_type"] == "SRModel"
    for other in (
        {"model_type": "SRModel", "train": {}},
        {"model_type": "SRModel"},
        {**options, "model_type": "X"},
    ):
        names["build_model"](other)
        assert asked.pop() == other["model_type"]


class _Numbers(torch.utils.data.Dataset[float]):
    """Random numbers as a dataset takes for its crops and flips."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> float:
        return float(np.random.random())


def test_seeds_of_data_workers() -> None:
    from basicsr.data import worker_init_fn

    names = run_afresh("basicsr.train")

    def create(opt: dict[str, Any], logger: object) -> Any:
        init = partial(worker_init_fn, num_workers=1, rank=0, seed=opt["manual_seed"])
        return torch.utils.data.DataLoader(_Numbers(), num_workers=1, worker_init_fn=init), None, [], 1, 1

    def two_epochs(seed: int, *asked: str) -> list[list[float]]:
        torch.manual_seed(seed)
        options = {"manual_seed": seed, "model_type": "SRModel", "lmlt": {"mends": [*asked]}}
        loader = names["create_train_val_dataloader"](options, None)[0]
        return [[batch.item() for batch in loader] for _ in range(2)]

    names["create_train_val_dataloader"] = create
    stock = two_epochs(0)
    assert stock[0] == stock[1]
    patch("seeds-of-data-workers", names)
    assert two_epochs(0) == stock, "of another model"
    first, second = two_epochs(0, "seeds-of-data-workers")
    assert first != second
    assert two_epochs(0, "all") == [first, second]
    assert two_epochs(1, "all")[0] != first


def test_order_that_a_resume_can_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_afresh("basicsr.train")
    (tmp_path / "0.png").write_bytes(encode_png(np.zeros((32, 32, 3), np.uint8), compression_level=1))
    data = {
        "name": "x",
        "type": "HQImageDataset",
        "phase": "train",
        "dataroot_gt": str(tmp_path),
        "crop_pad_size": 16,
        "batch_size_per_gpu": 1,
        "num_worker_per_gpu": 0,
        "dataset_enlarge_ratio": 4,
    }
    opt = {"manual_seed": 3, "num_gpu": 0, "dist": False, "rank": 0, "world_size": 1}
    opt |= {"datasets": {"train": data}, "train": {"total_iter": 6}, "model_type": "ESCRealMSEModel"}
    model = SimpleNamespace(train_sampler=None)
    names["build_model"] = lambda opt: model

    def start(**more: object) -> tuple[Any, Any]:
        model.train_sampler = None
        loader, sampler, *_ = names["create_train_val_dataloader"]({**opt, **more}, logging.getLogger())
        names["build_model"](opt)
        return loader, sampler

    assert "resume" not in dir(start()[1])
    assert model.train_sampler is None
    stock = names["EnlargedSampler"], names["build_dataset"]
    patch("order-that-a-resume-can-repeat", names)
    loader, sampler = start()
    assert model.train_sampler is sampler
    assert isinstance(sampler, TrainingOrder)
    assert sampler.seed == 3
    crops = [[batch["gt"] for batch in each] for each in (loader, start()[0])]
    assert len(crops[0]) == 6
    for first, second in zip(*crops, strict=True):
        assert torch.equal(first, second), "by seed and place alone"
    assert (names["EnlargedSampler"], names["build_dataset"]) == stock
    # Batches are page-locked where there is a GPU to copy them to, unless the options decide.
    assert not loader.pin_memory
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        assert start(num_gpu=1)[0].pin_memory
        assert not start(num_gpu=0)[0].pin_memory
        assert not start(num_gpu=1, datasets={"train": {**data, "pin_memory": False}})[0].pin_memory
    # Raw pixels travel as bytes.
    entry = raw_entry("0", np.full((32, 32, 3), 7, np.uint8))
    write_entries(tmp_path / "raw.lmdb", [entry], raw_sizes(32, 32), advance=lambda: None)
    roots = dict.fromkeys(("dataroot_gt", "dataroot_lq"), str(tmp_path / "raw.lmdb"))
    raw = {
        **data,
        **roots,
        "type": "PairedCropDataset",
        "io_backend": {"type": "lmdb"},
        "scale": 1,
        "gt_size": 16,
    }
    batch = next(iter(start(datasets={"train": raw})[0]))
    assert torch.equal(batch["lq"], torch.full((1, 3, 16, 16), 7, dtype=torch.uint8))
    # A user's own model gets the order if it derives from one of ours, but never bytes.
    monkeypatch.setattr(MODEL_REGISTRY, "_obj_map", dict(MODEL_REGISTRY._obj_map))
    MODEL_REGISTRY.register(type("MyModel", (ESCModel,), {}))
    loader, sampler = start(model_type="MyModel", datasets={"train": raw})
    assert isinstance(sampler, TrainingOrder)
    assert next(iter(loader))["lq"].dtype == torch.float32
    # Anybody else's model is left as it was.
    for more in ({}, {"datasets": {"train": raw}}):
        loader, sampler = start(model_type="SRModel", **more)
        assert not isinstance(sampler, TrainingOrder)
    assert next(iter(loader))["lq"].dtype == torch.float32
    assert model.train_sampler is None


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("batch", [3, 5, 40])
@pytest.mark.parametrize("total", [1, 4, 20])
def test_every_iteration_is_made(processes: int, batch: int, total: int) -> None:
    """BasicSR's loop over epochs reaches `total_iter` exactly, also after a resume at any iteration."""
    for resumed in range(total + 1):
        left = TrainingOrder([0] * 16, 4 if batch > 4 else 2, 0, ratio=1, seed=1, total_batch=batch)
        for _ in range(resumed):
            left.advance()
        # BasicSR keeps the epoch in which the last step began.
        state = {
            "epoch": max(0, left.place - batch) // 16,
            "iter": resumed,
            "plugin": {"sampler": left.state()},
        }
        order = TrainingOrder([0] * 16, processes, 0, ratio=1, seed=1, total_batch=batch)
        last = training._last_epoch(order, total, state)
        loader = DataLoader(
            [0] * 16, batch_size=len(range(0, batch, processes)), sampler=order, drop_last=True
        )
        steps = EpochLoader(loader, order)
        made = resumed
        for epoch in range(state["epoch"], last + 1):
            order.set_epoch(epoch)
            made += len([*steps])
        assert made == total
