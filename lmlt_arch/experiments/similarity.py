"""How alike the features of layers are: linear CKA from mini-batches."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lmlt_arch.errors import UsageError

Array = NDArray[np.float64]

# Fewest images in a batch for which the estimator is defined.
MIN_BATCH = 4
ATTENTION = r"\(\w*(Attention|Attn)\w*\)$"
"""Which layers are attention: those whose class says so."""


class Layers(NamedTuple):
    """Similarities of a network's layers, batch by batch.

    Attributes:
        names: dotted names, in the order in which the layers ran.
        hsic: (batches, layers, layers), see `unbiased_hsic`.
    """

    names: list[str]
    hsic: Array


def unbiased_hsic(grams: Array) -> Array:
    """Hilbert-Schmidt independence criterion of each pair of layers, without bias.

    The estimator of Song et al., "Feature Selection via Dependence Maximization", equation 5: its expectation
    does not depend on how many images there are, so that it may be averaged over batches.

    Args:
        grams: (layers, n, n), inner products of the features of n images, n at least `MIN_BATCH`.

    Returns:
        (layers, layers).
    """
    n = grams.shape[-1]
    grams = grams * (1 - np.eye(n))
    rows = grams.sum(2)
    totals = rows.sum(1)
    traces = np.einsum("aij,bij->ab", grams, grams)
    products = np.outer(totals, totals) / ((n - 1) * (n - 2))
    return (traces + products - 2 / (n - 2) * rows @ rows.T) / (n * (n - 3))


def cka(hsic: Array) -> Array:
    """Linear CKA of each pair of layers: 1 for the same up to rotation and scale, about 0 for unrelated ones.

    Averaged over batches before the division, as in Nguyen et al. (arXiv 2010.15327, section 2).

    Args:
        hsic: (batches, layers, layers).

    Returns:
        (layers, layers), the diagonal 1.
    """
    mean = hsic.mean(0)
    scale = np.sqrt(np.maximum(mean.diagonal(), np.finfo(np.float64).tiny))
    return mean / np.outer(scale, scale)


def find_layers(network: nn.Module, pattern: str = ATTENTION) -> dict[str, nn.Module]:
    """The layers whose `dotted.name (Class)` a regular expression is found in.

    Of layers within one another, the outer one.

    Raises:
        UsageError: there are fewer than two, or it is no regular expression.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--layers {pattern}: {error}") from error
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if not inside and expression.search(f"{name} ({type(module).__name__})"):
            found[name] = module
    if len(found) < 2:
        raise UsageError(f"{type(network).__name__}: {len(found)} layers match {pattern!r}; give --layers")
    return found


def compare_layers(network: nn.Module, layers: dict[str, nn.Module], batches: Iterable[Tensor]) -> Layers:
    """Run a network and compare what layers return.

    Args:
        network: takes a batch.
        layers: of the network, by name. What one returns is a tensor whose first axis is that of the images,
            or begins with it, as where windows are cut from images.
        batches: (n, 3, h, w) each, n at least `MIN_BATCH`.

    Raises:
        UsageError: a layer does not run exactly once for each batch, or returns something else.
    """
    grams: dict[str, Array] = {}
    hsic = []
    with ExitStack() as hooks:
        for name, module in layers.items():

            def keep(_module: nn.Module, _inputs: object, output: object, name: str = name) -> None:
                if name in grams:
                    raise UsageError(f"layer {name} runs more than once: leave it out by --layers")
                grams[name] = _gram(name, output, size)

            handle = module.register_forward_hook(keep)
            hooks.callback(handle.remove)
        for batch in batches:
            size = len(batch)
            grams.clear()
            with torch.inference_mode():
                network(batch)
            if missing := layers.keys() - grams.keys():
                raise UsageError(f"layer {min(missing)} does not run: leave it out by --layers")
            names = list(grams)
            hsic.append(unbiased_hsic(np.stack([*grams.values()])))
    return Layers(names, np.array(hsic))


def _gram(name: str, output: object, size: int) -> Array:
    if not isinstance(output, Tensor) or not output.ndim or len(output) % size:
        raise UsageError(f"layer {name} does not return features of each image: leave it out by --layers")
    features = output.reshape(size, -1).double()
    # The criterion does not depend on the mean; without it, less is lost to rounding.
    features = features - features.mean(0)
    gram: Array = (features @ features.T).cpu().numpy()
    return gram
