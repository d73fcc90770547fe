"""Mends for the course of a training: options, resuming, the seeds of workers, the labels of validations."""

import random
import sys
import warnings
import zipfile
from functools import partial, wraps
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from lmlt_arch.hook import mending
from lmlt_arch.hook.mending import Names, always, mend_after, uses


@mend_after("basicsr.utils.options", needed=always)
def pipeline_that_runs_as_main(names: Names) -> None:
    """Under `python -m basicsr.train` and torchrun the pipeline is `__main__`, out of an import hook's reach.

    `parse_options` is its first call: from there the mends for `basicsr.train` reach the caller.
    """
    stock = names["parse_options"]

    @wraps(stock)
    def parse_options(*args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        while frame.f_globals.get("__package__") == __package__ and frame.f_back:
            frame = frame.f_back
        if "load_resume_state" in frame.f_globals:
            mending.after("basicsr.train", frame.f_globals)
        return stock(*args, **kwargs)

    names["parse_options"] = parse_options


@mend_after(
    "basicsr.train",
    needed=lambda names: not torch.cuda.is_available() and uses(names["load_resume_state"], "current_device"),
)
def resume_without_gpu(names: Names) -> None:
    """Resuming maps the state to the current CUDA device and dies without one."""
    stock = names["load_resume_state"]

    @wraps(stock)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        on_cpu = SimpleNamespace(
            cuda=SimpleNamespace(current_device=lambda: 0),
            load=lambda path, map_location: torch.load(path, map_location="cpu"),
        )
        return FunctionType(stock.__code__, {**stock.__globals__, "torch": on_cpu})(opt)

    names["load_resume_state"] = load_resume_state


@mend_after("basicsr.train", needed=lambda names: uses(names["load_resume_state"], "experiments"))
def auto_resume_where_runs_are_written(names: Names) -> None:
    """`--auto_resume` looks below the working directory, while runs are written below the package's root.

    It then starts over in silence and renames the old run. A state cut off by a kill is passed over too.
    """
    stock = names["load_resume_state"]

    @wraps(stock)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        if not opt["auto_resume"]:
            return stock(opt)
        found = Path(opt["path"]["training_states"]).glob("*.state")
        states = sorted((path for path in found if path.stem.isdigit()), key=lambda path: int(path.stem))
        while states and not zipfile.is_zipfile(states[-1]):
            warnings.warn(f"{states[-1]} is damaged: looking for the one before it.", stacklevel=2)
            states.pop()
        opt["path"]["resume_state"] = str(states[-1]) if states else None
        return stock({**opt, "auto_resume": False})

    names["load_resume_state"] = load_resume_state


@mend_after("basicsr.models.base_model", needed=always)
def label_of_last_validation(names: Names) -> None:
    """The training loop counts on after its last iteration, and the last validation is labelled too late."""
    stock = names["BaseModel"].validation

    @wraps(stock)
    def validation(self: Any, dataloader: Any, current_iter: Any, *args: Any, **kwargs: Any) -> None:
        if self.is_train and isinstance(current_iter, int):
            current_iter = min(current_iter, int(self.opt["train"]["total_iter"]))
        stock(self, dataloader, current_iter, *args, **kwargs)

    names["BaseModel"].validation = validation


@mend_after("basicsr.data", needed=lambda names: not uses(names["worker_init_fn"], "initial_seed"))
def seeds_of_data_workers(names: Names) -> None:
    """Data workers got the same seeds in every epoch, so that crops and flips repeated.

    PyTorch draws fresh ones for each epoch, from the manual seed of the run.
    """
    names["worker_init_fn"] = worker_init_fn


def worker_init_fn(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Seed numpy and random in a data worker; at module level, because spawned workers get it pickled."""
    worker_seed = (torch.initial_seed() + num_workers * rank + seed) % 2**32
    np.random.seed(worker_seed)
    random.seed(worker_seed)


@mend_after("basicsr.train", needed=always)
def order_that_a_resume_can_repeat(names: Names) -> None:
    """A resumed epoch starts anew and with other crops: nothing remembers its place and its random numbers.

    Our models are given samples that depend on seed, epoch and place alone, and know the place.
    """
    stock_create, stock_build = names["create_train_val_dataloader"], names["build_model"]
    orders: list[Any] = []

    @wraps(stock_create)
    def create_train_val_dataloader(opt: dict[str, Any], logger: Any) -> Any:
        from lmlt_arch.data.paired_crop_dataset import PairedCropDataset
        from lmlt_arch.data.training_order import PrepareWorker, SeededDataset, TrainingOrder
        from lmlt_arch.options.looking import is_ours

        orders.clear()
        if not is_ours(opt):
            return stock_create(opt, logger)
        stock = {name: names[name] for name in ("EnlargedSampler", "build_dataset")}

        def build_dataset(section: dict[str, Any]) -> Any:
            dataset = stock["build_dataset"](section)
            if section["phase"] != "train":
                return dataset
            if isinstance(dataset, PairedCropDataset):
                dataset.as_bytes = True  # our models make floats of them on their device
            return SeededDataset(dataset, skip_damaged=section.get("damaged_images") == "skip")

        names["EnlargedSampler"] = partial(TrainingOrder, seed=opt["manual_seed"], batch=_batch(opt))
        names["build_dataset"] = build_dataset
        try:
            created = stock_create(opt, logger)
        finally:
            names.update(stock)
        loader, order = created[:2]
        # So that beginning an epoch takes nothing from the global generator.
        loader.generator = torch.Generator().manual_seed(opt["manual_seed"])
        # In place of BasicSR's seeds, which samples with seeds of their own do not need.
        loader.worker_init_fn = PrepareWorker()
        if torch.cuda.is_available() and opt["num_gpu"] and "pin_memory" not in opt["datasets"]["train"]:
            loader.pin_memory = True  # copies to the GPU then go on beside everything else
        orders.append(order)
        return created

    @wraps(stock_build)
    def build_model(opt: dict[str, Any]) -> Any:
        model = stock_build(opt)
        if orders and hasattr(model, "train_sampler"):
            model.train_sampler = orders[0]
        return model

    names["create_train_val_dataloader"], names["build_model"] = create_train_val_dataloader, build_model


def _batch(opt: dict[str, Any]) -> int:
    """Samples of a step on each process, as BasicSR's loader has them."""
    gpus = 1 if opt["dist"] else opt["num_gpu"] or 1
    return int(opt["datasets"]["train"]["batch_size_per_gpu"]) * int(gpus)


@mend_after("basicsr.models", needed=lambda names: not uses(_sr_model().init_training_settings, "fft_opt"))
def fft_loss_of_sr_model(names: Names) -> None:
    """Official LMLT option files name `SRModel` with `fft_opt`, a loss that stock SRModel ignores in silence.

    `LMLTModel` is the SRModel that trains with it.
    """
    stock = names["build_model"]

    @wraps(stock)
    def build_model(opt: dict[str, Any]) -> Any:
        if opt.get("model_type") == "SRModel" and (opt.get("train") or {}).get("fft_opt"):
            names["get_root_logger"]().warning(
                "Stock SRModel ignores train: fft_opt: using model_type: LMLTModel, which trains with it."
            )
            opt = {**opt, "model_type": "LMLTModel"}
        return stock(opt)

    names["build_model"] = build_model


def _sr_model() -> Any:
    return sys.modules["basicsr.models.sr_model"].SRModel
