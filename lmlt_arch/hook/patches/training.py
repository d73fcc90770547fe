"""Patches for training: the order and seeds of samples, the labels of validations."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lmlt_arch.errors import UsageError
from lmlt_arch.hook import patching
from lmlt_arch.hook.ending import end_run
from lmlt_arch.hook.patches.resuming import Start
from lmlt_arch.hook.patching import ON_REQUEST, OURS, Names, caller, patch_after, wanted
from lmlt_arch.names import effective_model, holds_ours, runs_ours, sr_model_reads

if TYPE_CHECKING:
    from lmlt_arch.data.datasets.training_order import TrainingOrder
    from lmlt_arch.options.total_batch import TotalBatch


@patch_after("basicsr.utils.options", changes=("parse_options",), acts=OURS)
def pipeline_that_runs_as_main(names: Names) -> None:
    """Under `python -m basicsr.train` and torchrun the pipeline is `__main__`, out of an import hook's reach.

    `parse_options` is its first call: from there the patches for `basicsr.train` reach the caller.
    """
    stock = names["parse_options"]

    @wraps(stock)
    def parse_options(*args: Any, **kwargs: Any) -> Any:
        pipeline = caller()
        if "load_resume_state" in pipeline:
            patching.after("basicsr.train", pipeline)
        return stock(*args, **kwargs)

    names["parse_options"] = parse_options


@patch_after("basicsr.models.base_model", changes=("BaseModel.validation",), acts=ON_REQUEST)
def label_of_last_validation(names: Names) -> None:
    """The training loop counts on after its last iteration, and the last validation is labeled too late."""
    stock = names["BaseModel"].validation

    @wraps(stock)
    def validation(self: Any, dataloader: Any, current_iter: Any, *args: Any, **kwargs: Any) -> None:
        opt = self.opt
        if self.is_train and isinstance(current_iter, int) and wanted("label-of-last-validation", opt):
            current_iter = min(current_iter, int(opt["train"]["total_iter"]))
        stock(self, dataloader, current_iter, *args, **kwargs)

    names["BaseModel"].validation = validation


@patch_after("basicsr.train", changes=("create_train_val_dataloader",), acts=ON_REQUEST)
def seeds_of_data_workers(names: Names) -> None:
    """Data workers get the same seeds in every epoch, so that crops and flips repeat.

    Here they depend on the epoch and on the manual seed of the run. Trainings of our models seed each sample
    instead.
    """
    stock = names["create_train_val_dataloader"]

    @wraps(stock)
    def create_train_val_dataloader(opt: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        created = stock(opt, *args, **kwargs)
        if wanted("seeds-of-data-workers", opt) and not runs_ours(opt):
            created[0].worker_init_fn = worker_init_fn
        return created

    names["create_train_val_dataloader"] = create_train_val_dataloader


def worker_init_fn(worker_id: int) -> None:
    """Seed numpy and random in a data worker; at module level, because spawned workers get it pickled."""
    np.random.seed(torch.initial_seed() % 2**32)
    random.seed(torch.initial_seed())


@patch_after(
    "basicsr.train",
    changes=(
        "load_resume_state",
        "create_train_val_dataloader",
        "build_model",
        "build_dataset",
        "EnlargedSampler",
    ),
    acts=OURS,
)
def order_that_a_resume_can_repeat(names: Names) -> None:
    """A resumed epoch starts again and with other crops: nothing remembers its place and its random numbers.

    The samples of our models depend on seed, epoch and place alone, and the place is saved. They are one
    sequence, whatever the number of processes is or becomes: no image is left over at the end of an epoch,
    nothing starts again there, and a run has all iterations of its options.
    """
    stock_load, stock_build = names["load_resume_state"], names["build_model"]
    stock_create = names["create_train_val_dataloader"]
    orders: list[TrainingOrder] = []
    resumed: list[dict[str, Any]] = []

    @wraps(stock_load)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        state = stock_load(opt)
        resumed[:] = [state] if isinstance(state, dict) else []
        return state

    @wraps(stock_create)
    def create_train_val_dataloader(opt: dict[str, Any], logger: Any) -> Any:
        orders.clear()
        if not runs_ours(opt):
            return stock_create(opt, logger)
        from lmlt_arch.data.datasets.training_order import EpochLoader, PrepareWorker
        from lmlt_arch.models.agreement import check_same_images
        from lmlt_arch.options.total_batch import known_launch, total_batch

        batch = total_batch(opt, known_launch(opt))
        assert batch is not None  # the loader needs it
        with _ordered_data(names, opt, batch.total):
            loader, order, validation, _, total = stock_create(_with_share(opt, batch), logger)
        if opt["dist"]:
            check_same_images(each.dataset for each in validation)
        # So that the start of an epoch does not advance the global generator.
        loader.generator = torch.Generator().manual_seed(opt["manual_seed"])
        # In place of BasicSR's seeds, which samples with seeds of their own do not need.
        loader.worker_init_fn = PrepareWorker()
        if torch.cuda.is_available() and opt["num_gpu"] and "pin_memory" not in opt["datasets"]["train"]:
            loader.pin_memory = True  # copies to the GPU then overlap with other work
        orders.append(order)
        logger.info(batch)
        last = _last_epoch(order, total, *resumed)
        return EpochLoader(loader, order), order, validation, last, total

    @wraps(stock_build)
    def build_model(opt: dict[str, Any]) -> Any:
        model = stock_build(opt)
        if orders and hasattr(model, "train_sampler"):
            model.train_sampler, model.run = orders[0], Start.run
        return model

    names["load_resume_state"], names["build_model"] = load_resume_state, build_model
    names["create_train_val_dataloader"] = create_train_val_dataloader


def _with_share(opt: dict[str, Any], batch: TotalBatch) -> dict[str, Any]:
    """Options with which BasicSR's loader takes the share of this process; without a launcher, per GPU."""
    share = batch.share(opt["rank"])
    if not opt["dist"]:
        copies = max(1, opt["num_gpu"])
        if share % copies:
            text = f"a batch of {share} cannot be divided among {copies} GPUs of one process"
            end_run(UsageError(f"{text}: start a process for each by torchrun ... --launcher pytorch"))
        share //= copies
    train = {**opt["datasets"]["train"], "batch_size_per_gpu": share}
    return {**opt, "datasets": {**opt["datasets"], "train": train}}


@contextmanager
def _ordered_data(names: Names, opt: dict[str, Any], batch: int) -> Iterator[None]:
    """Let the pipeline make datasets that follow a `TrainingOrder`, in steps of `batch` samples in total."""
    from lmlt_arch.data.datasets.paired_crop import PairedCropDataset
    from lmlt_arch.data.datasets.training_order import SeededDataset, TrainingOrder

    stock = {name: names[name] for name in ("EnlargedSampler", "build_dataset")}

    def build_dataset(section: dict[str, Any]) -> Any:
        dataset = stock["build_dataset"](section)
        if section["phase"] != "train":
            return dataset
        if isinstance(dataset, PairedCropDataset) and holds_ours("MODEL_REGISTRY", effective_model(opt)):
            dataset.as_bytes = True  # our models convert them to floats on their device
        return SeededDataset(dataset, skip_damaged=section.get("damaged_images") == "skip")

    names["EnlargedSampler"] = partial(TrainingOrder, seed=opt["manual_seed"], total_batch=batch)
    names["build_dataset"] = build_dataset
    try:
        yield
    finally:
        names.update(stock)


def _last_epoch(order: TrainingOrder, total: int, resumed: dict[str, Any] | None = None) -> int:
    """The epoch in which the last step of a run of `total` iterations begins; it may be a resumed run."""
    if resumed is None:
        return order.end_after(total)
    place = (resumed.get("plugin") or {}).get("sampler")
    order.resume(place or {**order.state(), "epoch": resumed["epoch"]})
    left = total - resumed["iter"]
    # BasicSR begins with the epoch of the state.
    return order.end_after(left) if left > 0 else resumed["epoch"] - 1


@patch_after(
    "basicsr.models",
    changes=("build_model",),
    needed=lambda names: not sr_model_reads("fft_opt"),
    acts=OURS,
)
def fft_loss_of_sr_model(names: Names) -> None:
    """Official LMLT option files name `SRModel` with `fft_opt`, a loss that stock SRModel ignores in silence.

    `LMLTModel` is the SRModel that trains with it.
    """
    stock = names["build_model"]

    @wraps(stock)
    def build_model(opt: dict[str, Any]) -> Any:
        kind = effective_model(opt)
        if kind != opt.get("model_type"):
            names["get_root_logger"]().warning(
                f"Stock SRModel ignores train: fft_opt: using model_type: {kind}, which trains with it."
            )
            opt = {**opt, "model_type": kind}
        return stock(opt)

    names["build_model"] = build_model
