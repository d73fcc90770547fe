"""Patches for runs without a GPU and on several processes: stock code's failure, and the result."""

# mypy: allow-subclassing-any
from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
import torch
from helpers.stock_modules import patch, run_afresh
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lmlt_arch.hook import patching

Parse = Callable[..., dict[str, Any]]
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a fault of machines without a GPU")


def test_local_rank_spelling(parsed: Parse) -> None:
    names = run_afresh("basicsr.utils.options")
    for spelling in (["--local-rank=0"], ["--local-rank", "0"]):
        with pytest.raises(SystemExit):
            parsed(names, *spelling)
    patch("local-rank-spelling", names)
    for spelling in (["--local-rank=0"], ["--local-rank", "0"], ["--local_rank=0"]):
        assert parsed(names, *spelling)["name"] == "tiny"


@no_gpu
def test_gpus_that_are_not_there(parsed: Parse) -> None:
    names = run_afresh("basicsr.utils.options")
    assert parsed(names)["num_gpu"] == 1
    patch("gpus-that-are-not-there", names)
    with pytest.warns(UserWarning, match="num_gpu: 1 .* running on the CPU"):
        assert parsed(names)["num_gpu"] == 0


def test_dist_params_for_the_pytorch_launcher(parsed: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_afresh("basicsr.utils.options")
    asked: list[dict[str, Any]] = []
    names["init_dist"] = lambda launcher, **params: asked.append(params)
    parsed(names, "--launcher", "pytorch")
    assert asked.pop() == {}
    patch("dist-params-for-the-pytorch-launcher", names)
    parsed(names, "--launcher", "pytorch")
    assert asked.pop() == {}, "of another model"
    monkeypatch.setenv(patching.ASK, "dist-params-for-the-pytorch-launcher")
    parsed(names, "--launcher", "pytorch")
    assert asked.pop() == {"backend": "gloo", "timeout": timedelta(seconds=90)}
    parsed(names, "--launcher", "slurm")
    assert asked.pop() == {"backend": "gloo", "timeout": 90, "port": 29500}


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment that torchrun sets for the only process of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@no_gpu
def test_process_group_on_this_machine(one_process: None) -> None:
    names = run_afresh("basicsr.utils.dist_util")
    with pytest.raises(ZeroDivisionError):
        names["_init_dist_pytorch"]("nccl")
    patch("process-group-on-this-machine", names)
    names["_init_dist_pytorch"]("nccl", timeout=timedelta(seconds=60))
    assert torch.distributed.get_backend() == "gloo"
    assert names["get_dist_info"]() == (0, 1)


@pytest.fixture
def process_group(one_process: None) -> None:
    torch.distributed.init_process_group("gloo")


@no_gpu
def test_data_parallel_on_cpu(process_group: None) -> None:
    names = run_afresh("basicsr.models.base_model")
    model = names["BaseModel"]({"num_gpu": 0, "is_train": True, "dist": True})
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
        model.model_to_device(nn.Linear(2, 2))
    patch("data-parallel-on-cpu", names)
    net = model.model_to_device(nn.Linear(2, 2))
    assert isinstance(net, DistributedDataParallel)
    net(torch.ones(1, 2)).sum().backward()
    assert model.get_bare_model(net).weight.grad is not None
    alone = names["BaseModel"]({"num_gpu": 0, "is_train": True, "dist": False})
    assert isinstance(alone.model_to_device(nn.Linear(2, 2)), nn.Linear)


class _OneImage(torch.utils.data.Dataset[dict[str, Any]]):
    """A validation set."""

    opt: ClassVar = {"name": "x"}

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"lq": torch.zeros(3, 4, 4), "lq_path": "x.png"}


def test_validation_on_rank_zero(process_group: None) -> None:
    names = run_afresh("basicsr.models.sr_model")

    stock: Any = names["SRModel"]

    class Model(stock):
        """An SRModel whose validation records which network it ran."""

        def __init__(self, net: nn.Module) -> None:
            self.opt = {"rank": 0, "dist": True, "val": {}}
            self.net_g = net

        def feed_data(self, data: dict[str, Any]) -> None:
            self.lq, self.validated = data["lq"], self.net_g

    class OwnWay(Model):
        """A model that upscales in a way of its own."""

        def test(self) -> None:
            super().test()

    loader = torch.utils.data.DataLoader(_OneImage())
    net = DistributedDataParallel(nn.Conv2d(3, 3, 1))
    for patched in (False, True):
        if patched:
            patch("validation-on-rank-zero", names)
        for kind in (Model, OwnWay):
            model = kind(net)
            model.dist_validation(loader, 1, None, False)
            assert model.validated is (net.module if patched and kind is Model else net)
            assert model.net_g is net
