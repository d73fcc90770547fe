"""Are errors larger at the borders of attention windows than inside of them?

  python scripts/experiments/window_boundaries.py --model LMLT_tiny_x4.pth --data datasets/Set5
  python scripts/experiments/window_boundaries.py --train datasets/BSDS400 --data datasets/Set14

Networks with window attention cannot see over a window's border within a layer. Whether that leaves traces
is measured against ground truth, for windows of every size that a network has (LMLT: 8, 16, 32 and 64 input
pixels) or that --windows names; a network without windows is measured at the windows of the others, and so
shows what there is without any. Two measures:

  energy  mean squared error near a border: within 1, 2, 4 and 8 input pixels for windows of 8, 16, 32 and 64,
          since LMLT's coarse levels work on pixels as large as that
  step    mean square of the change of the error across the border, which is what a seam looks like

Each network sees each image with its windows in several places (--shifts), and only values of the same place
of the image are compared: with a border there, and with none.

How to read it: the RATIO compares borders with the inside of windows. 1 means none; 1.10 means 10 % more
error at borders. Its interval (95 %) resamples blocks of 32 x 32 input pixels. The CONTROL is the least and
the largest ratio of phases inside of the windows, as if the borders stood there: a ratio within it is nothing
particular to borders. Windows of a level begin where finer ones do, too, so BEYOND FINER compares with
borders of the next finer windows only: what this level adds. The curves show all phases of the largest
window, the map the energy at each place in it, over that of the same content elsewhere: borders would be red.

With --train, small networks are trained first, all alike: LMLT and LMLT-no-low-to-high, SwinIR and
SwinIR-unshifted (without shifted windows). They are saved as PREFIX_NAME.pth, which --model takes. A few
hundred iterations are no training: give many thousands, on a GPU, for results that mean something.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from common.brief_training import train_briefly
from common.networks import Networks, add_model_options, build_networks, window_sizes
from common.photographs import Photograph, add_data_options, read_photographs
from common.program import Outcome, make_parser, run_experiment
from common.window_errors import (
    MEASURES,
    Array,
    Boundaries,
    choose_shifts,
    find_boundaries,
    find_errors,
    folded_map,
)
from lmlt_arch.errors import DataError, UsageError
from lmlt_arch.evaluation.figures import new_figure
from lmlt_arch.evaluation.outputs import check_outputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINED = ("LMLT", "LMLT-no-low-to-high", "SwinIR", "SwinIR-unshifted")


@dataclass(frozen=True)
class Findings:
    """What was measured of a network.

    Attributes:
        psnr: mean over images, RGB, in dB.
        boundaries: by measure, for windows of each size that the images have borders of.
        folded: energy at each place in the largest window.
    """

    psnr: float
    boundaries: dict[str, list[Boundaries]]
    folded: Array


def main(argv: list[str] | None = None) -> int:
    """Run the experiment."""
    parser = make_parser("window_boundaries", __doc__ or "")
    add_model_options(parser, required=False)
    add_data_options(parser, images=0)
    parser.add_argument("--windows", type=int, nargs="+", metavar="PIXELS", help="sides in input pixels")
    parser.add_argument(
        "--band",
        type=int,
        default=1,
        metavar="PIXELS",
        help="input pixels on each side of a border of the finest windows, with larger windows more "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--shifts",
        type=int,
        default=3,
        metavar="N",
        help="places within the finest window where borders stand in turn, 2 or more (default: %(default)s)",
    )
    training = parser.add_argument_group("training small networks")
    training.add_argument("--train", type=Path, metavar="FOLDER", help="a dataset, as for --data")
    training.add_argument(
        "--trained", nargs="+", choices=TRAINED, default=TRAINED, metavar="NAME", help="which (default: all)"
    )
    training.add_argument("--scale", type=int, default=4, help="(default: that of --model, else 4)")
    training.add_argument("--iterations", type=int, default=300, help="(default: %(default)s)")
    training.add_argument("--batch", type=int, default=4, help="patches in a step (default: %(default)s)")
    training.add_argument(
        "--patch", type=int, default=64, help="side of a patch in input pixels (default: %(default)s)"
    )
    training.add_argument("--seed", type=int, default=0, help="of weights and patches (default: %(default)s)")
    return run_experiment(parser, experiment, argv)


def experiment(args: Namespace) -> Outcome:
    """Train if `--train` is given, measure, draw."""
    if not args.model and args.train is None:
        raise UsageError("no network to look at: give --model, or --train FOLDER")
    networks = (
        build_networks(args.model, args.unshifted, args.device) if args.model else Networks(args.scale, {})
    )
    photographs = read_photographs(args.data, networks.scale, args.images)
    if args.train is not None:
        networks = Networks(networks.scale, {**networks.by_name, **trained(args, networks)})
    windows = windows_of(networks, args)
    findings = {
        name: measure(name, network, photographs, networks.scale, windows[name], args)
        for name, network in networks.by_name.items()
    }
    result = {
        "data": str(args.data),
        "images": len(photographs),
        "scale": networks.scale,
        "band": args.band,
        "training": None
        if args.train is None
        else {
            "data": str(args.train),
            "iterations": args.iterations,
            "batch": args.batch,
            "patch": args.patch,
        },
        "networks": {
            name: {
                "psnr": found.psnr,
                **{kind: [level.to_json() for level in found.boundaries[kind]] for kind in MEASURES},
            }
            for name, found in findings.items()
        },
    }
    return Outcome(result, summary(findings), draw(findings))


def trained(args: Namespace, given: Networks) -> Mapping[str, torch.nn.Module]:
    """Small networks, trained alike and saved beside the results."""
    paths = {name: args.output.with_name(f"{args.output.name}_{name}.pth") for name in args.trained}
    check_outputs([*paths.values()], [])
    if twice := sorted(paths.keys() & given.by_name.keys()):
        raise UsageError(f"--train makes a network {twice[0]}, too: give yours another name")
    photographs = read_photographs(args.train, given.scale)
    return {
        name: train_briefly(
            name,
            photographs,
            scale=given.scale,
            iterations=args.iterations,
            batch=args.batch,
            patch=args.patch,
            device=args.device,
            path=paths[name],
            seed=args.seed,
        )
        for name in paths
    }


def windows_of(networks: Networks, args: Namespace) -> dict[str, list[int]]:
    """The window sizes at which each network is measured, finest first."""
    own = {name: window_sizes(network) for name, network in networks.by_name.items()}
    every = sorted(set().union(*own.values()))
    if args.windows:
        every = sorted(set(args.windows))
        own = dict.fromkeys(own, every)
    if not every:
        raise UsageError("none of the networks is known to have windows: give --windows")
    if args.shifts < 2:
        raise UsageError(f"--shifts {args.shifts}: borders need 2 places or more to be compared")
    if args.band < 1 or every[0] <= 4 * args.band:
        raise UsageError(
            f"--band {args.band}: windows of {every[0]} pixels leave no inside, or it is below 1"
        )
    return {name: sizes or every for name, sizes in own.items()}


def measure(
    name: str,
    network: torch.nn.Module,
    photographs: Sequence[Photograph],
    scale: int,
    windows: Sequence[int],
    args: Namespace,
) -> Findings:
    """Upscale all photographs and compare borders with the inside, for windows of each size."""
    shifts = choose_shifts(windows, args.shifts)
    errors = []
    for _, lq, gt in tqdm(photographs, desc=name, file=sys.stderr):
        errors.append(find_errors(network, lq.to(args.device), gt, shifts, scale=scale))
    boundaries: dict[str, list[Boundaries]] = {kind: [] for kind in MEASURES}
    for window in windows:
        finer = max((size for size in windows if size < window and window % size == 0), default=None)
        for kind in MEASURES:
            band = args.band * window // windows[0]
            found = find_boundaries(errors, kind, window, finer=finer, band=band)
            if found is not None:
                boundaries[kind].append(found)
    if not boundaries["energy"]:
        raise DataError(f"{args.data}: no image is large enough for windows of {windows[0]} input pixels")
    psnr = [-10 * math.log10(max(found.cells[0].mean(), 1e-12)) for found in errors]
    return Findings(sum(psnr) / len(psnr), boundaries, folded_map(errors, windows[-1]))


def summary(findings: Mapping[str, Findings]) -> str:
    """A table for the terminal."""
    lines = [f"{'network':20} {'PSNR':>5} window measure  {'ratio (95 %)':22}  {'control':14}  beyond finer"]
    for name, found in findings.items():
        for kind in MEASURES:
            for level in found.boundaries[kind]:
                beyond = (
                    ""
                    if level.beyond_finer is None
                    else "{:.3f} ({:.3f} to {:.3f})".format(*level.beyond_finer)
                )
                lines.append(
                    f"{name:20} {found.psnr:5.2f} {level.window:6} {kind:7}  "
                    f"{'{:.3f} ({:.3f} to {:.3f})'.format(*level.ratio)}  "
                    f"{level.control[0]:.3f} to {level.control[1]:.3f}  {beyond}"
                )
    return "\n".join(lines)


def draw(findings: Mapping[str, Findings]) -> Figure:
    """Ratios by window, curves over the phase, and a map of each network."""
    figure = new_figure(max(9, 2 * len(findings)), 8)
    rows = figure.add_gridspec(2, 1, height_ratios=(2.6, 1))
    above, below = (figure.add_subfigure(rows[row]) for row in range(2))
    axes = above.subplots(2, 2)
    for (top, bottom), kind in zip(axes.T, MEASURES, strict=True):
        draw_ratios(top, findings, kind)
        draw_curves(bottom, findings, kind)
    axes[1, 1].legend(fontsize=7, loc="upper right")
    maps = below.subplots(1, len(findings), squeeze=False)[0]
    for axis, (name, found) in zip(maps, findings.items(), strict=True):
        side, widest = len(found.folded), float(abs(found.folded - 1).max())
        axis.imshow(found.folded, vmin=1 - widest, vmax=1 + widest, cmap="RdBu_r", extent=(0, side, side, 0))
        axis.set_title(f"{name}\nenergy by place; red: +{100 * widest:.2g} %", fontsize=7)
        axis.tick_params(labelsize=6)
    return figure


def draw_ratios(axis: Axes, findings: Mapping[str, Findings], kind: str) -> None:
    """Ratio and interval at each window size; bars of gray for the control."""
    for number, found in enumerate(findings.values()):
        for level in found.boundaries[kind]:
            place = math.log2(level.window) + 0.12 * (number - (len(findings) - 1) / 2)
            value, low, high = level.ratio
            axis.vlines(place, *level.control, color="0.85", linewidth=7)
            axis.errorbar(
                place,
                value,
                [[max(value - low, 0)], [max(high - value, 0)]],
                fmt="o",
                color=f"C{number}",
                markersize=4,
                capsize=2,
            )
    sizes = sorted({level.window for found in findings.values() for level in found.boundaries[kind]})
    axis.set_xticks([math.log2(size) for size in sizes], [str(size) for size in sizes])
    axis.axhline(1, color="black", linewidth=0.6)
    axis.set(title=f"{kind} at borders over the inside", xlabel="window (input pixels); gray: control")


def draw_curves(axis: Axes, findings: Mapping[str, Findings], kind: str) -> None:
    """The ratio over the phase in the largest window, the border in the middle."""
    for number, (name, found) in enumerate(findings.items()):
        level = found.boundaries[kind][-1]
        half = level.window // 2
        phases = range(-half, level.window - half)
        axis.plot(phases, np.roll(level.curve, half), color=f"C{number}", linewidth=1, label=name)
    axis.axhline(1, color="black", linewidth=0.6)
    axis.set(title=f"{kind} over the distance from the border", xlabel="input pixels")


if __name__ == "__main__":
    sys.exit(main())
