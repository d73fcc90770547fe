r"""Do attention layers one after another compute much the same?

  python scripts/experiments/layer_similarity.py --model LMLT_tiny_x4.pth --data datasets/BSDS400
  python scripts/experiments/layer_similarity.py --model ESC.pth --layers 'attn ' --data datasets/BSDS400

ESC replaces most self-attention by convolution because features of its layers were seen to be alike. This
measures it on any network: hooks take what each attention layer returns for crops of photographs, and linear
CKA compares all pairs, by the unbiased estimator from mini-batches, so that the batch size does not matter.

How to read it: 1 means that two layers separate the same crops in the same way, up to rotation and scale of
their features; 0 that they have nothing in common. Bright squares along the diagonal are stages that repeat
themselves: candidates for something cheaper. NEIGHBORS is the mean over layers that follow one another, ALL
that over all pairs; intervals (95 %) resample batches. Layers stand in the order in which they run; those of
LMLT from the coarsest level to the finest within each block. Even random weights give layers that are alike,
as they all see the same image: compare with the preset of the same name. Crops of one photograph resemble
each other: take as many photographs as crops.
"""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from common.networks import add_model_options, build_networks
from common.photographs import Photograph, add_data_options, large_enough, read_photographs
from common.program import Outcome, make_parser, run_experiment
from common.statistics import Interval, bootstrap
from lmlt_arch.errors import UsageError
from lmlt_arch.evaluation.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


@dataclass(frozen=True)
class Findings:
    """What was measured of a network.

    Attributes:
        layers: names in the order in which they ran.
        similarity: (layers, layers).
        neighbors: mean over layers that follow one another.
        all_pairs: mean over all pairs.
    """

    layers: list[str]
    similarity: Array
    neighbors: Interval
    all_pairs: Interval


def main(argv: list[str] | None = None) -> int:
    """Run the experiment."""
    parser = make_parser("layer_similarity", __doc__ or "")
    add_model_options(parser)
    add_data_options(parser, images=64)
    parser.add_argument("--crops", type=int, default=64, help="how many (default: %(default)s)")
    parser.add_argument(
        "--size",
        type=int,
        default=64,
        metavar="PIXELS",
        help="of a crop, input pixels (default: %(default)s)",
    )
    parser.add_argument("--batch", type=int, default=8, help="crops at once (default: %(default)s)")
    parser.add_argument(
        "--layers",
        default=ATTENTION,
        metavar="REGEX",
        help="which layers, found in 'dotted.name (Class)' (default: classes of attention)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the crops (default: %(default)s)")
    return run_experiment(parser, experiment, argv)


def experiment(args: Namespace) -> Outcome:
    """Measure and draw."""
    if args.batch < MIN_BATCH:
        raise UsageError(f"--batch {args.batch}: the estimator needs {MIN_BATCH} or more")
    if args.crops < args.batch:
        raise UsageError(f"--crops {args.crops}: give at least one batch of {args.batch}")
    networks = build_networks(args.model, args.unshifted, args.device)
    layers = {name: find_layers(network, args.layers) for name, network in networks.by_name.items()}
    crops = cut_crops(read_photographs(args.data, networks.scale, args.images), args)
    findings = {}
    for name, network in networks.by_name.items():
        batches = crops.to(args.device).split(args.batch)[: args.crops // args.batch]
        progress = tqdm(batches, desc=name, file=sys.stderr)
        found = compare_layers(network, layers[name], progress)
        findings[name] = Findings(
            found.names,
            cka(found.hsic),
            bootstrap(found.hsic, lambda sample: float(cka(sample).diagonal(1).mean())),
            bootstrap(found.hsic, lambda sample: mean_of_pairs(cka(sample))),
        )
    result = {
        "data": str(args.data),
        "crops": len(batches) * args.batch,
        "size": args.size,
        "batch": args.batch,
        "networks": {
            name: {
                "layers": found.layers,
                "neighbors": found.neighbors,
                "all": found.all_pairs,
                "similarity": np.round(found.similarity, 6).tolist(),
            }
            for name, found in findings.items()
        },
    }
    return Outcome(result, summary(findings), draw(findings))


def cut_crops(photographs: Sequence[Photograph], args: Namespace) -> torch.Tensor:
    """Random crops of all photographs in turn: (crops, 3, size, size)."""
    large = [lq for _, lq, _ in large_enough(photographs, args.size, args.data)]
    generator = torch.Generator().manual_seed(args.seed)
    crops = []
    for number in range(args.crops):
        lq = large[number % len(large)]
        top, left = (
            int(torch.randint(length - args.size + 1, (), generator=generator)) for length in lq.shape[1:]
        )
        crops.append(lq[:, top : top + args.size, left : left + args.size])
    # Batches of mixed photographs, also where there are few.
    return torch.stack(crops)[torch.randperm(len(crops), generator=generator)]


def mean_of_pairs(similarity: Array) -> float:
    """The mean over all pairs of different layers."""
    return float(similarity[np.triu_indices(len(similarity), 1)].mean())


def summary(findings: Mapping[str, Findings]) -> str:
    """A table for the terminal."""
    lines = [f"{'network':24}{'layers':>6}  {'neighbors (95 %)':24}  all"]
    for name, found in findings.items():
        neighbors, pairs = (
            "{:.3f} ({:.3f} to {:.3f})".format(*it) for it in (found.neighbors, found.all_pairs)
        )
        lines.append(f"{name:24}{len(found.layers):>6}  {neighbors:24}  {pairs}")
    return "\n".join(lines)


def draw(findings: Mapping[str, Findings]) -> Figure:
    """A heat map for each network."""
    figure = new_figure(max(5, 4.2 * len(findings)), 4.6)
    axes = figure.subplots(1, len(findings), squeeze=False)[0]
    for axis, (name, found) in zip(axes, findings.items(), strict=True):
        image = axis.imshow(found.similarity, vmin=0, vmax=1, cmap="magma")
        axis.set_title(
            f"{name}\nneighbors {found.neighbors.value:.2f}, all {found.all_pairs.value:.2f}", fontsize=9
        )
        labels = short_names(found.layers)
        every = range(0, len(found.layers), -(-len(found.layers) // 32))
        axis.set_yticks(every, [labels[number] for number in every], fontsize=5)
        axis.set_xticks(every, [str(number) for number in every], fontsize=5, rotation=90)
    figure.colorbar(image, ax=list(axes), shrink=0.8, label="linear CKA")
    return figure


def short_names(names: Sequence[str]) -> list[str]:
    """Dotted names without the parts that all of them begin with."""
    parts = [name.split(".") for name in names]
    common = 0
    while len({tuple(part[: common + 1]) for part in parts}) == 1:
        common += 1
    return [".".join(part[common:]) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
