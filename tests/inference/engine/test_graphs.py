"""Recordings repeat what the network computes; without a GPU only the choice of the runner is tested."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.small.networks import SMALL
from torch import Tensor

from lmlt_arch.inference.engine.graphs import GraphedNetwork
from lmlt_arch.inference.runner import NetworkRunner

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_a_cpu_records_nothing() -> None:
    network = SMALL["LMLT"].build()
    runner = NetworkRunner(network, device=torch.device("cpu"))
    lq = torch.rand(1, 3, 20, 12)
    assert all(torch.equal(runner(lq), runner(lq)) for _ in range(2))
    assert not isinstance(runner._fast, GraphedNetwork)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["LMLT", "ESC", "ESCFP", "ESCReal"])
@torch.no_grad()
def test_recordings_equal_the_network(name: str, dtype: torch.dtype) -> None:
    network = SMALL[name].build().to("cuda", dtype).eval()
    graphed = GraphedNetwork(network)
    sizes = [(1, 3, 64, 64), (2, 3, 33, 70), (1, 3, 64, 64), (1, 3, 9, 9)]
    for size in sizes:
        images = [torch.rand(size, device="cuda", dtype=dtype) for _ in range(4)]
        results = [graphed(lq) for lq in images]
        # Compared at the end, so that a result that a later run overwrites is found.
        for lq, found in zip(images, results, strict=True):
            assert torch.equal(found, network(lq))
    assert 0 < len(graphed._recordings) <= 2
    copied = copy.deepcopy(graphed)
    assert not copied._recordings
    assert torch.equal(copied(images[0]), results[0])


@needs_gpu
def test_with_and_without_inference_mode() -> None:
    network = SMALL["LMLT"].build().to("cuda").eval()
    graphed, lq = GraphedNetwork(network), torch.rand(1, 3, 64, 64, device="cuda")
    for mode in (True, True, False, False, True):
        with torch.inference_mode(mode), torch.no_grad():
            assert torch.equal(graphed(lq), network(lq))
    assert graphed._recordings


@needs_gpu
@torch.no_grad()
def test_two_threads() -> None:
    graphed = GraphedNetwork(lambda lq: lq.cumsum(-1).flip(-1).sqrt())
    images = [torch.full((1, 3, 512, 512), float(number), device="cuda") for number in range(64)]
    graphed(images[0]), graphed(images[0])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(graphed, images))
    torch.cuda.synchronize()
    for lq, found in zip(images, results, strict=True):
        assert torch.equal(found, lq.cumsum(-1).flip(-1).sqrt())


@needs_gpu
@torch.no_grad()
def test_what_cannot_be_recorded_just_runs() -> None:
    def waits(lq: Tensor) -> Tensor:
        return lq * lq.sum().item()

    graphed, lq = GraphedNetwork(waits), torch.ones(1, 3, 2, 2, device="cuda")
    for _ in range(4):
        assert torch.equal(graphed(lq), 12 * lq)


@needs_gpu
@torch.no_grad()
def test_what_changes_from_run_to_run_is_not_recorded() -> None:
    graphed, lq = GraphedNetwork(torch.rand_like), torch.ones(1, 3, 2, 2, device="cuda")
    results = [graphed(lq) for _ in range(4)]
    assert not graphed._recordings
    assert not torch.equal(results[2], results[3])
