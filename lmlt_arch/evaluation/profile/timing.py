"""Running networks for their time and memory."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmlt_arch.inference.engine.memory import is_out_of_memory


def run_once(network: nn.Module, image: Tensor) -> float:
    """Seconds of one forward pass; on CUDA between two events on the device."""
    if image.device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        network(image)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    _synchronize(image.device)
    begin = time.perf_counter()
    network(image)
    _synchronize(image.device)
    return time.perf_counter() - begin


class Ran(NamedTuple):
    """Outcome of a run for its memory."""

    output: Tensor
    memory: int | None


def run_for_memory(network: nn.Module, image: Tensor) -> Ran:
    """One forward pass; on CUDA with the most memory that weights, input and all tensors between took."""
    device = image.device
    if device.type != "cuda":
        return Ran(network(image), None)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    output = network(image)
    torch.cuda.synchronize(device)
    above = torch.cuda.max_memory_allocated(device) - before
    own = [*network.parameters(), *network.buffers(), image]
    return Ran(output, above + sum(tensor.numel() * tensor.element_size() for tensor in own))


def describe_problem(error: Exception) -> str:
    """Why something did not run, in a few words."""
    text = str(error).strip() or repr(error)
    return "out of memory" if is_out_of_memory(error) else text.splitlines()[0][:100]


def _synchronize(device: torch.device) -> None:
    if device.type == "mps":
        torch.mps.synchronize()
