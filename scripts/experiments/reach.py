"""How far does a network look, and how much of what it sees does it use?

  python scripts/experiments/reach.py --model LMLT_tiny_x4.pth --model ESC_x4.pth --data datasets/Set5
  python scripts/experiments/reach.py --model ESC_x4.pth --data datasets/Set5 --show butterfly --patch 30 20

Three measures, for any network:

  receptive field   the gradient of the output in the middle with respect to each input pixel, averaged over
                    images; sides of the squares around the middle that hold 50, 90 and 99 % of it
  LAM               which input pixels the detail in a patch comes from: gradients integrated on the way from
                    a blurred image to the image (local attribution map)
  diffusion index   100 (1 - Gini) of the LAM: how evenly pixels take part

How to read it: a larger square means that the network looks further, a larger diffusion index that more
pixels take part in what it draws. A convolution's squares end where its kernels do; window attention shows
its windows as squares, and a network that averages over the image sees all of it, if weakly. Both measures
grow with the image: compare at one --size. Random weights show what the structure allows, not what
training makes of it. Intervals (95 %) resample images. LAM is drawn for one image (--show); the index is the
mean of all.
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
from lmlt_arch.experiments.reach import (
    Array,
    Patch,
    attribution,
    diffusion_index,
    find_patch,
    mean_field,
    middle_crop,
    receptive_field,
    shares_within,
    side_of_share,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Shown:
    """The image whose attributions are drawn."""

    name: str
    lq: torch.Tensor
    patch: Patch


@dataclass(frozen=True)
class Findings:
    """What was measured of a network.

    Attributes:
        field: mean receptive field.
        sides: of the squares that hold `SHARES` of it, and of the one that holds all.
        indices: diffusion index of each image.
        index: their mean.
        attributed: LAM of the image that is shown.
    """

    field: Array
    sides: dict[str, Interval]
    indices: list[float]
    index: Interval
    attributed: Array


def main(argv: list[str] | None = None) -> int:
    """Run the experiment."""
    parser = make_parser("reach", __doc__ or "")
    add_model_options(parser)
    add_data_options(parser, images=5)
    parser.add_argument(
        "--size",
        type=int,
        default=64,
        metavar="PIXELS",
        help="side of the middle of the images that networks see, in input pixels (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=20, help="from the blurred image (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="steps at once (default: %(default)s)")
    parser.add_argument("--show", metavar="NAME", help="image to draw (default: the first)")
    parser.add_argument(
        "--patch",
        type=int,
        nargs=2,
        metavar=("X", "Y"),
        help="left and top of its patch, in input pixels of the middle (default: where there is most detail)",
    )
    parser.add_argument(
        "--patch-size", type=int, default=4, metavar="PIXELS", help="in input pixels (default: %(default)s)"
    )
    return run_experiment(parser, experiment, argv)


def experiment(args: Namespace) -> Outcome:
    """Measure and draw."""
    if args.steps < 1 or args.batch < 1:
        raise UsageError("--steps and --batch must be 1 or more")
    if not 2 <= args.patch_size <= args.size // 4:
        raise UsageError(f"--patch-size {args.patch_size}: give 2 to {args.size // 4}, a quarter of --size")
    networks = build_networks(args.model, args.unshifted, args.device)
    images = {
        name: middle_crop(lq, args.size).to(args.device)
        for name, lq, _ in large_enough(read_photographs(args.data, networks.scale, args.images), args)
    }
    shown = choose_shown(images, args)
    findings = {
        name: measure(name, network, images, networks.scale, shown, args)
        for name, network in networks.by_name.items()
    }
    result = {
        "data": str(args.data),
        "images": list(images),
        "scale": networks.scale,
        "size": args.size,
        "steps": args.steps,
        "shown": {"image": shown.name, "patch": shown.patch._asdict()},
        "networks": {
            name: {
                "sides": found.sides,
                "diffusion_index": found.index,
                "diffusion_index_of_images": dict(zip(images, found.indices, strict=True)),
                "share_within_1_3_5": [round(share, 6) for share in shares_within(found.field)],
            }
            for name, found in findings.items()
        },
    }
    return Outcome(result, summary(findings), draw(findings, shown))


def large_enough(photographs: Sequence[Photograph], args: Namespace) -> list[Photograph]:
    """Those of which the middle can be cut."""
    large = [photograph for photograph in photographs if min(photograph.lq.shape[1:]) >= args.size]
    if not large:
        raise DataError(
            f"{args.data}: no image has {args.size} input pixels on each side; give a smaller --size"
        )
    return large


def choose_shown(images: Mapping[str, torch.Tensor], args: Namespace) -> Shown:
    """The image to draw, and its patch."""
    name = args.show or next(iter(images))
    if name not in images:
        raise UsageError(f"--show {name}: the images are {', '.join(images)}")
    if args.patch is None:
        return Shown(name, images[name], find_patch(images[name], args.patch_size))
    patch = Patch(args.patch[0], args.patch[1], args.patch_size)
    if min(args.patch) < 0 or max(args.patch) + patch.side > args.size:
        raise UsageError(f"--patch {patch.left} {patch.top} is not within {args.size}x{args.size} pixels")
    return Shown(name, images[name], patch)


def measure(
    name: str,
    network: torch.nn.Module,
    images: Mapping[str, torch.Tensor],
    scale: int,
    shown: Shown,
    args: Namespace,
) -> Findings:
    """Receptive field and attribution for each image."""
    fields, attributed = [], {}
    for key, lq in tqdm(images.items(), desc=name, file=sys.stderr):
        fields.append(receptive_field(network, lq, scale=scale))
        patch = shown.patch if key == shown.name else find_patch(lq, args.patch_size)
        attributed[key] = attribution(network, lq, patch, scale=scale, steps=args.steps, batch=args.batch)
    for key, field in zip(images, fields, strict=True):
        if not field.any() or not attributed[key].any():
            raise DataError(f"{name} on {key}: the output does not depend on the input")
    indices = [diffusion_index(each) for each in attributed.values()]
    sides = {f"{share:.0%}": side_interval(fields, share) for share in (*SHARES, 1)}
    index = bootstrap(indices, lambda sample: float(sample.mean()))
    return Findings(mean_field(fields), sides, indices, index, attributed[shown.name])


def side_interval(fields: Sequence[Array], share: float) -> Interval:
    """Side of the square that holds a share of the mean receptive field."""
    return bootstrap(fields, lambda sample: side_of_share(mean_field(sample), share))


def summary(findings: Mapping[str, Findings]) -> str:
    """A table for the terminal."""
    lines = [
        "network                 side of the square that holds 50 %, 90 %, 99 %, all   diffusion index (95 %)"
    ]
    for name, found in findings.items():
        sides = " ".join(f"{side.value:6.0f}" for side in found.sides.values())
        index = "{:.1f} ({:.1f} to {:.1f})".format(*found.index)
        lines.append(f"{name:24}{'':26}{sides}   {index}")
    return "\n".join(lines)


def draw(findings: Mapping[str, Findings], shown: Shown) -> Figure:
    """For each network its receptive field and its LAM beside the image."""
    columns = len(findings) + 1
    figure = new_figure(2.4 * columns, 5.2)
    axes = figure.subplots(2, columns)
    picture = shown.lq.permute(1, 2, 0).cpu().numpy()
    axes[0, 0].imshow(picture)
    axes[0, 0].set_title(f"{shown.name}, with the patch", fontsize=8)
    outline(axes[0, 0], shown.patch)
    draw_shares(axes[1, 0], findings)
    for column, (name, found) in enumerate(findings.items(), 1):
        gray = np.repeat(picture.mean(2, keepdims=True), 3, 2)
        strength = np.abs(found.attributed)
        # The root keeps weak pixels visible.
        strength = np.sqrt(strength / strength.max())[..., None]
        axes[0, column].imshow(gray * (1 - strength) + np.array([1.0, 0, 0]) * strength)
        axes[0, column].set_title(f"{name}\nLAM; mean diffusion index {found.index.value:.1f}", fontsize=8)
        outline(axes[0, column], shown.patch)
        logarithm = np.log10(np.maximum(found.field / found.field.max(), 1e-6))
        axes[1, column].imshow(logarithm, vmin=-6, vmax=0, cmap="viridis")
        held = ", ".join(f"{side.value:.0f}" for side in list(found.sides.values())[:-1])
        axes[1, column].set_title(f"receptive field, 6 decades\n50, 90, 99 % in {held}", fontsize=8)
    for axis in [*axes[0], *axes[1, 1:]]:
        axis.set_axis_off()
    return figure


def outline(axis: Axes, patch: Patch) -> None:
    """Draw the border of a patch."""
    left, top, side = patch.left - 0.5, patch.top - 0.5, patch.side
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) * side + (left, top)
    axis.plot(*corners.T, color="yellow", linewidth=1)


def draw_shares(axis: Axes, findings: Mapping[str, Findings]) -> None:
    """Share of the receptive field over the side of the square."""
    for number, (name, found) in enumerate(findings.items()):
        shares = 100 * np.array(shares_within(found.field))
        axis.plot(2 * np.arange(len(shares)) + 1, shares, color=f"C{number}", linewidth=1, label=name)
    axis.set_xlabel("side of the square (input pixels)", fontsize=7)
    axis.set_title("% of the receptive field within", fontsize=8)
    axis.tick_params(labelsize=6)
    axis.legend(fontsize=6)


if __name__ == "__main__":
    sys.exit(main())
