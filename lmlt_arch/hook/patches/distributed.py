"""Patches for runs without a GPU and for runs on several processes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from lmlt_arch.hook.patching import ON_REQUEST, Names, after_parsing, patch_after, uses, wanted


def _no_gpu(names: Names) -> bool:
    return not torch.cuda.is_available()


@contextmanager
def _argv(arguments: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before


@patch_after(
    "basicsr.utils.options",
    changes=("parse_options",),
    needed=lambda names: not uses(names["parse_options"], "--local-rank"),
)
def local_rank_spelling(names: Names) -> None:
    """PyTorch 2 spells it `--local-rank`; BasicSR knows `--local_rank` only (BasicSR #626)."""
    stock = names["parse_options"]

    @wraps(stock)
    def parse_options(*args: Any, **kwargs: Any) -> Any:
        with _argv([argument.replace("--local-rank", "--local_rank", 1) for argument in sys.argv]):
            return stock(*args, **kwargs)

    names["parse_options"] = parse_options


@patch_after("basicsr.utils.options", changes=("parse_options",), needed=_no_gpu)
def gpus_that_are_not_there(names: Names) -> None:
    """An option file with `num_gpu: 1` stops on a machine without a GPU: it runs on the CPU and says so."""

    def run_on_cpu(opt: dict[str, Any]) -> None:
        if opt.get("num_gpu"):
            warnings.warn(
                f"num_gpu: {opt['num_gpu']} in the option file, but there is no GPU: running on the CPU.",
                stacklevel=3,
            )
            opt["num_gpu"] = 0

    after_parsing(names, run_on_cpu)


@patch_after("basicsr.utils.options", changes=("parse_options", "init_dist"), acts=ON_REQUEST)
def dist_params_for_the_pytorch_launcher(names: Names) -> None:
    """`dist_params` of the option file reach the slurm launcher only: backend and timeout were ignored."""
    stock, name = names["init_dist"], "dist-params-for-the-pytorch-launcher"

    @wraps(stock)
    def init_dist(launcher: str, *args: Any, **params: Any) -> None:
        opt = sys._getframe(1).f_locals.get("opt") or {}
        if launcher == "pytorch" and not args and not params and wanted(name, opt):
            params = group_options(opt.get("dist_params") or {})
            params.pop("port", None)  # set by torchrun
        stock(launcher, *args, **params)

    names["init_dist"] = init_dist


def group_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """What `dist_params` gives to `init_process_group`, which takes a timeout as a timedelta only."""
    options = {**params}
    if isinstance(options.get("timeout"), int | float):
        options["timeout"] = timedelta(seconds=options["timeout"])
    return options


@patch_after(
    "basicsr.utils.dist_util",
    changes=("_init_dist_pytorch",),
    needed=lambda names: not uses(names["_init_dist_pytorch"], "LOCAL_RANK"),
)
def process_group_on_this_machine(names: Names) -> None:
    """Starting two processes divides by the number of GPUs, which may be zero, and asks for NCCL.

    Without a GPU the backend is gloo; otherwise torchrun's LOCAL_RANK is the number of this process's GPU.
    """

    def _init_dist_pytorch(backend: str = "nccl", **kwargs: Any) -> None:
        if torch.cuda.is_available():
            rank = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
            torch.cuda.set_device(rank % torch.cuda.device_count())
        elif backend == "nccl":
            backend = "gloo"
        torch.distributed.init_process_group(backend=backend, **kwargs)

    names["_init_dist_pytorch"] = _init_dist_pytorch


@patch_after(
    "basicsr.models.base_model",
    changes=("BaseModel.model_to_device",),
    needed=lambda names: uses(_base(names).model_to_device, "current_device"),
)
def data_parallel_on_cpu(names: Names) -> None:
    """DistributedDataParallel gets `device_ids`, which it refuses for a network on the CPU."""
    stock = _base(names).model_to_device

    @wraps(stock)
    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if self.opt["dist"] and self.device.type == "cpu":
            unused = self.opt.get("find_unused_parameters", False)
            return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)
        wrapped: torch.nn.Module = stock(self, net)
        return wrapped

    _base(names).model_to_device = model_to_device


@patch_after(
    "basicsr.models.sr_model",
    changes=("SRModel.dist_validation", "SRModel.nondist_validation", "SRModel.test"),
    needed=lambda names: not uses(names["SRModel"].dist_validation, "barrier"),
)
def validation_on_rank_zero(names: Names) -> None:
    """Rank 0 alone runs the DDP-wrapped network in validation: gloo breaks, NCCL may hang (BasicSR #635).

    It gets the bare network, and the other ranks wait for it. A class with its own `test` or
    `nondist_validation` may need the wrapped network, and is left alone.
    """
    model = names["SRModel"]
    stock, own = model.dist_validation, (model.test, model.nondist_validation)

    @wraps(stock)
    def dist_validation(self: Any, *args: Any, **kwargs: Any) -> None:
        if (type(self).test, type(self).nondist_validation) != own:
            stock(self, *args, **kwargs)
            return
        wrapped = self.net_g
        self.net_g = self.get_bare_model(wrapped)
        try:
            stock(self, *args, **kwargs)
        finally:
            self.net_g = wrapped
        torch.distributed.barrier()

    model.dist_validation = dist_validation


def _base(names: Names) -> Any:
    return names["BaseModel"]
