"""Estimates of a training's memory, counted, and of its time, measured on a part of an iteration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lmlt_arch.archs.common.blocks import repeated_blocks
from lmlt_arch.models.activation_checkpointing import checkpoint_blocks
from lmlt_arch.options.checks.parts import build, build_on_meta
from lmlt_arch.options.looking import at, model_family, section, whole
from lmlt_arch.options.sections import QUEUE_SIZE

# Tensors of a parameter's size that an optimizer keeps, where it is not two.
_STATES = {"SGD": 1, "RMSprop": 1, "Adagrad": 1, "Rprop": 2, "ASGD": 1, "Adafactor": 0, "Adamax": 2}


class Memory(NamedTuple):
    """Bytes that a training needs, without those of the device's libraries."""

    activations: int
    parameters: int
    gradients: int
    optimizer: int
    average: int
    pool: int
    """The pool of pairs from which the models for photographs take their batches."""

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self)


def estimate_memory(opt: Mapping[str, Any], batch: int, side: int) -> Memory:
    """Count the bytes that a step keeps, on tensors without memory.

    Activations are the tensors that the backward pass needs; in mixed precision they take half of the bytes.

    Args:
        opt: options without mistakes.
        batch: images that go through the network at once.
        side: of the LQ patches, in pixels.
    """
    scale = whole(opt, "scale") or 1
    images = torch.empty(batch, 3, side, side, device="meta")
    network = build_on_meta(opt, "network_g")
    half, queries = bool(at(opt, "train", "amp")), whole(opt, "train", "queries")
    blocks = repeated_blocks(network) if at(opt, "train", "checkpointing") else []
    activations = _saved(network, images, half=half, queries=queries, recomputed=blocks)
    trained, average = _size(network), _size(network) if at(opt, "train", "ema_decay") else 0
    weights, states = trained, trained * _states(opt, "optim_g")
    if section(opt, "network_d"):
        judge = build_on_meta(opt, "network_d")
        # The generator's step and the discriminator's come one after the other; the larger one counts.
        upscaled = torch.empty(batch, 3, side * scale, side * scale, device="meta")
        activations += _saved(judge, upscaled, half=half)
        weights += _size(judge)
        states += _size(judge) * _states(opt, "optim_d")
    return Memory(activations, weights, weights, states, average, _pool(opt, side, scale))


def _pool(opt: Mapping[str, Any], side: int, scale: int) -> int:
    if not model_family(opt).synthesizes:
        return 0
    pairs = QUEUE_SIZE if opt.get("queue_size") is None else whole(opt, "queue_size") or 0
    return pairs * 3 * side**2 * (1 + scale**2) * torch.float32.itemsize


def measure_iteration(opt: Mapping[str, Any], batch: int, at_once: int, side: int) -> tuple[float, str]:
    """Measure the forward and backward pass of `network_g`.

    Args:
        opt: options without mistakes.
        batch: images per step of a process.
        at_once: how many of those go through the network at once.
        side: of the LQ patches, in pixels.

    Returns:
        Seconds for an iteration, and a description of the measurement.
    """
    gpu = opt.get("num_gpu") != 0 and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    # On a CPU a whole batch takes long.
    measured, sample = (at_once, side) if gpu else (1, min(side, 32))
    with torch.random.fork_rng(devices=[]):
        network = build(opt, "network_g").to(device)
        images = torch.rand(measured, 3, sample, sample, device=device)
    if at(opt, "train", "checkpointing"):
        checkpoint_blocks(network)
    queries = whole(opt, "train", "queries")
    seconds = min(_step(network, images, queries) for _ in range(2))
    device_name = torch.cuda.get_device_name() if gpu else f"the CPU with {torch.get_num_threads()} threads"
    share = measured * sample**2 / (batch * side**2)
    what = f"{measured} x {sample} x {sample} pixels of LQ on {device_name}"
    scaled = "" if share == 1 else f", times {1 / share:g}"
    return seconds / share, f"measured: {what}{scaled}; without losses, data and optimizer"


def _step(network: nn.Module, images: Tensor, queries: int | None) -> float:
    start = time.perf_counter()
    _forward(network, images, queries).sum().backward()
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _states(opt: Mapping[str, Any], name: str) -> int:
    return _STATES.get(str(at(opt, "train", name, "type")), 2)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def _forward(network: nn.Module, images: Tensor, queries: int | None) -> Tensor:
    """The network's output, or `queries` pixels of each image of it."""
    if not queries:
        return network(images)
    return network(
        images, positions=torch.zeros(len(images), queries, dtype=torch.int64, device=images.device)
    )


def _saved(
    network: nn.Module,
    images: Tensor,
    *,
    half: bool,
    queries: int | None = None,
    recomputed: Iterable[nn.Module] = (),
) -> int:
    """Bytes that a forward pass keeps for the backward pass, without the parameters.

    Of the `recomputed` blocks it keeps the inputs; the backward pass adds the rest of one block at a time.
    """
    own = {id(parameter) for parameter in network.parameters()}
    inputs, inner = [0], [0]

    def run(forward: Callable[..., Any], *args: Any) -> Any:
        with _counting(own) as kept:
            output = forward(*args)
        inner.append(sum(kept.values()))
        inputs.extend(
            a.untyped_storage().nbytes() for a in args if isinstance(a, Tensor) and id(a) not in own
        )
        return output

    for block in recomputed:
        block.forward = partial(run, block.forward)
    with _counting(own) as kept, torch.enable_grad():
        _forward(network, images, queries)
    total = sum(kept.values()) + sum(inputs) + max(inner)
    return total // 2 if half else total


@contextmanager
def _counting(own: set[int]) -> Iterator[dict[int, int]]:
    kept: dict[int, int] = {}
    alive = []  # the identity of a storage is unique only as long as it lives

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(tensor) not in own and not isinstance(tensor, nn.Parameter):
            alive.append(storage)
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
