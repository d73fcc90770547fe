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
pixels take part in its output. A convolution's squares end where its kernels do; window attention shows
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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import tqdm

from common.networks import add_model_options, build_networks
from common.photographs import add_data_options, large_enough, middle_crop, read_photographs
from common.program import Outcome, make_parser, run_experiment
from common.statistics import Interval, bootstrap
from lmlt_arch.errors import DataError, UsageError
from lmlt_arch.evaluation.figures import new_figure
from lmlt_arch.evaluation.models import full_precision

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# LAM's blur at the start of the path: standard deviation in input pixels, and side of the kernel.
BLUR_SIGMA, BLUR_SIDE = 1.2, 9


class Patch(NamedTuple):
    """A square of input pixels."""

    left: int
    top: int
    side: int


def receptive_field(network: nn.Module, lq: Tensor, *, scale: int) -> Array:
    """How much each input pixel moves the output in the middle of an image.

    The absolute gradient of the output pixels of one input pixel, summed over them and over channels, as in
    Luo et al., "Understanding the Effective Receptive Field" (arXiv 1701.04128).

    Args:
        network: maps (1, 3, h, w) to (1, 3, h * scale, w * scale).
        lq: (3, h, w), where the network is. The middle is pixel (h // 2, w // 2).
        scale: output size over input size.

    Returns:
        (h, w), not normalized.
    """
    x = lq[None].clone().requires_grad_()
    top, left = (length // 2 * scale for length in lq.shape[1:])
    with torch.enable_grad(), full_precision():
        middle = network(x)[:, :, top : top + scale, left : left + scale].sum()
        (gradient,) = torch.autograd.grad(middle, x)
    return gradient[0].abs().sum(0).double().cpu().numpy()


def shares_within(field: Array) -> list[float]:
    """How much of a field (h, w) is within squares of sides 1, 3, 5, … around the middle, until all is."""
    distance = _distance(field)
    held = np.cumsum(np.bincount(distance.ravel(), field.ravel()))
    return [float(share) for share in held / held[-1]]


def side_of_share(field: Array, share: float) -> int:
    """Side of the smallest square around the middle that holds a share of a field (arXiv 2203.06717).

    Args:
        field: (h, w), see `receptive_field`.
        share: of the sum of the field; 1 for all that is not zero.

    Returns:
        An odd number; the square may be larger than the image on some sides.
    """
    if share >= 1:
        return int(2 * _distance(field)[field > 0].max(initial=0) + 1)
    return int(2 * np.searchsorted(shares_within(field), share) + 1)


def blur_path(lq: Tensor, steps: int) -> Tensor:
    """From an image blurred by a Gaussian to the image itself.

    Args:
        lq: (3, h, w).
        steps: how many.

    Returns:
        (steps + 1, 3, h, w); standard deviations fall evenly from `BLUR_SIGMA` to 0.
    """
    images = [_blur(lq, BLUR_SIGMA * (1 - number / steps)) for number in range(steps)]
    return torch.stack([*images, lq])


def detail(images: Tensor, area: tuple[slice, slice]) -> Tensor:
    """What LAM explains: the sum of the absolute differences of neighbors in an area, for each image.

    Args:
        images: (B, 3, H, W).
        area: rows and columns.
    """
    part = images[..., area[0], area[1]]
    down, right = (part.diff(dim=axis).abs().flatten(1).sum(1) for axis in (2, 3))
    return down + right


def attribution(
    network: nn.Module, lq: Tensor, patch: Patch, *, scale: int, steps: int = 50, batch: int = 1
) -> Array:
    """What each input pixel adds to the detail that a network makes in a patch.

    Local attribution map (LAM, Gu and Dong, arXiv 2011.11036): gradients integrated along `blur_path`. Their
    sum is the detail of the output for the image less that for the blurred image, up to the steps.

    Args:
        network: maps (B, 3, h, w) to (B, 3, h * scale, w * scale).
        lq: (3, h, w), where the network is.
        patch: where the detail is.
        scale: output size over input size.
        steps: of the path.
        batch: how many of them at once.

    Returns:
        (h, w), positive and negative.
    """
    path = blur_path(lq, steps)
    rows = slice(patch.top * scale, (patch.top + patch.side) * scale)
    columns = slice(patch.left * scale, (patch.left + patch.side) * scale)
    total = torch.zeros_like(lq, dtype=torch.float64, device="cpu")
    for start in range(0, steps, batch):
        ends = path[start + 1 : start + batch + 1]
        begins = path[start : start + len(ends)]
        # Half way between the steps, where the error of the sum is of second order.
        x = ((begins + ends) / 2).requires_grad_()
        with torch.enable_grad(), full_precision():
            (gradient,) = torch.autograd.grad(detail(network(x), (rows, columns)).sum(), x)
        total += (gradient * (ends - begins)).sum(0).double().cpu()
    return total.sum(0).numpy()


def gini(values: ArrayLike) -> float:
    """Gini coefficient of absolute values: 0 if all are equal, near 1 if few hold all.

    Raises:
        ValueError: all are zero.
    """
    ordered = np.sort(np.abs(np.asarray(values, dtype=np.float64)).ravel())
    if not ordered[-1]:
        raise ValueError("all values are zero")
    count = len(ordered)
    ranks = 2 * np.arange(1, count + 1) - count - 1
    return float((ranks * ordered).sum() / (count * ordered.sum()))


def diffusion_index(attributed: Array) -> float:
    """Share of the image that takes part in an attribution, in percent: 100 (1 - Gini), as LAM defines it."""
    return 100 * (1 - gini(attributed))


def find_patch(lq: Tensor, side: int) -> Patch:
    """The patch of most detail, not nearer to an edge than a quarter of the image.

    Args:
        lq: (3, h, w).
        side: in pixels, at most half of the image.
    """
    change = F.pad(lq.diff(dim=2).abs(), (0, 1)) + F.pad(lq.diff(dim=1).abs(), (0, 0, 0, 1))
    mean = F.avg_pool2d(change.mean(0)[None], side, 1)[0]
    top, left = (length // 4 for length in lq.shape[1:])
    inner = mean[top : len(mean) - top, left : mean.shape[1] - left]
    row, column = divmod(int(inner.argmax()), inner.shape[1])
    return Patch(left + column, top + row, side)


def mean_field(fields: Sequence[Array] | Array) -> Array:
    """The mean of receptive fields (n, h, w), each over its sum, so that images count alike."""
    return np.mean([field / field.sum() for field in fields], axis=0)


def _distance(field: Array) -> NDArray[np.int64]:
    """Of each pixel from the middle: the larger of rows and columns."""
    rows, columns = (abs(np.arange(length) - length // 2) for length in field.shape)
    return np.maximum(rows[:, None], columns)


def _blur(image: Tensor, sigma: float) -> Tensor:
    places = torch.arange(BLUR_SIDE, dtype=image.dtype, device=image.device) - BLUR_SIDE // 2
    kernel = torch.exp(-places.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    reach = BLUR_SIDE // 2
    padded = F.pad(image[None], (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel[:, :, None], groups=3)
    return F.conv2d(rows, kernel[..., None], groups=3)[0]


SHARES = (0.5, 0.9, 0.99)


class Shown(NamedTuple):
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
    add = parser.add_argument
    size = "side of the middle of the images that networks see, in input pixels (default: %(default)s)"
    place = "left and top of its patch, in input pixels of the middle (default: where there is most detail)"
    add("--size", type=int, default=64, metavar="PIXELS", help=size)
    add("--steps", type=int, default=20, help="from the blurred image (default: %(default)s)")
    add("--batch", type=int, default=4, help="steps at once (default: %(default)s)")
    add("--show", metavar="NAME", help="image to draw (default: the first)")
    add("--patch", type=int, nargs=2, metavar=("X", "Y"), help=place)
    add("--patch-size", type=int, default=4, metavar="PIXELS", help="in input pixels (default: %(default)s)")
    return run_experiment(parser, experiment, argv)


def experiment(args: Namespace) -> Outcome:
    """Measure and draw."""
    if args.steps < 1 or args.batch < 1:
        raise UsageError("--steps and --batch must be 1 or more")
    if not 2 <= args.patch_size <= args.size // 4:
        raise UsageError(f"--patch-size {args.patch_size}: give 2 to {args.size // 4}, a quarter of --size")
    networks = build_networks(args.model, args.unshifted, args.device)
    photographs = read_photographs(args.data, networks.scale, args.images)
    large = large_enough(photographs, args.size, args.data)
    images = {name: middle_crop(lq, args.size).to(args.device) for name, lq, _ in large}
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
        if not fields[-1].any() or not attributed[key].any():
            raise DataError(f"{name} on {key}: the output does not depend on the input")
    indices = [diffusion_index(each) for each in attributed.values()]

    def side(share: float) -> Interval:
        return bootstrap(fields, lambda sample: side_of_share(mean_field(sample), share))

    sides = {f"{share:.0%}": side(share) for share in (*SHARES, 1)}
    index = bootstrap(indices, lambda sample: float(sample.mean()))
    return Findings(mean_field(fields), sides, indices, index, attributed[shown.name])


def summary(findings: Mapping[str, Findings]) -> str:
    """A table for the terminal."""
    lines = [f"{'network':24}side of the square that holds 50 %, 90 %, 99 %, all   diffusion index (95 %)"]
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
    draw_shares(axes[1, 0], findings)
    for column, (name, found) in enumerate(findings.items(), 1):
        gray = np.repeat(picture.mean(2, keepdims=True), 3, 2)
        strength = np.abs(found.attributed)
        # The root keeps weak pixels visible.
        strength = np.sqrt(strength / strength.max())[..., None]
        axes[0, column].imshow(gray * (1 - strength) + np.array([1.0, 0, 0]) * strength)
        axes[0, column].set_title(f"{name}\nLAM; mean diffusion index {found.index.value:.1f}", fontsize=8)
        logarithm = np.log10(np.maximum(found.field / found.field.max(), 1e-6))
        axes[1, column].imshow(logarithm, vmin=-6, vmax=0, cmap="viridis")
        held = ", ".join(f"{side.value:.0f}" for side in list(found.sides.values())[:-1])
        axes[1, column].set_title(f"receptive field, 6 decades\n50, 90, 99 % in {held}", fontsize=8)
    for axis in axes[0]:
        outline(axis, shown.patch)
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
