r"""Do attention layers one after another compute much the same?

  python scripts/experiments/layer_similarity.py --model LMLT_tiny_x4.pth --data datasets/BSDS400
  python scripts/experiments/layer_similarity.py --model ESC.pth --layers 'attn ' --data datasets/BSDS400

ESC replaces most self-attention by convolution because features of its layers were seen to be alike. This
measures it on any network: hooks take what each attention layer returns for crops of photographs, and linear
CKA compares all pairs, by the unbiased estimator from mini-batches, so that the batch size does not matter.

How to read it: 1 means that two layers tell the same crops apart in the same way, up to rotation and scale of
their features; 0 that they have nothing in common. Bright squares along the diagonal are stages that repeat
themselves: candidates for something cheaper. NEIGHBORS is the mean over layers that follow one another, ALL
that over all pairs; intervals (95 %) resample batches. Layers stand in the order in which they run; those of
LMLT from the coarsest level to the finest within each block. Even random weights give layers that are alike,
as they all see the same image: compare with the preset of the same name. Crops of one photograph resemble
each other: take as many photographs as crops.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from lmlt_arch.errors import DataError, UsageError
from lmlt_arch.evaluation.figures import new_figure
from lmlt_arch.experiments.interval import Interval, bootstrap
from lmlt_arch.experiments.photographs import Photograph, add_data_options, read_photographs
from lmlt_arch.experiments.probed_networks import add_model_options, build_networks
from lmlt_arch.experiments.program import Outcome, make_parser, run_experiment
from lmlt_arch.experiments.similarity import ATTENTION, MIN_BATCH, Array, cka, compare_layers, find_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    large = [lq for _, lq, _ in photographs if min(lq.shape[1:]) >= args.size]
    if not large:
        raise DataError(
            f"{args.data}: no image has {args.size} input pixels on each side; give a smaller --size"
        )
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
