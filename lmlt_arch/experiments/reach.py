"""How far a network looks: effective receptive field, and attribution along a blur path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lmlt_arch.evaluation.models import full_precision

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
    """How much of a receptive field squares around the middle hold, of sides 1, 3, 5, … until they hold all.

    Args:
        field: (h, w), see `receptive_field`.
    """
    distance = _distance(field)
    held = np.cumsum(np.bincount(distance.ravel(), field.ravel()))
    return [float(share) for share in held / held[-1]]


def side_of_share(field: Array, share: float) -> int:
    """Side of the smallest square around the middle that holds a share of a receptive field.

    As RepLKNet compares receptive fields (arXiv 2203.06717).

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
    return sum(
        ((part.diff(dim=axis)).abs().flatten(1).sum(1) for axis in (2, 3)), start=part.new_zeros(len(images))
    )


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


def middle_crop(lq: Tensor, side: int) -> Tensor:
    """(3, h, w) to (3, side, side)."""
    top, left = ((length - side) // 2 for length in lq.shape[1:])
    return lq[:, top : top + side, left : left + side]


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
