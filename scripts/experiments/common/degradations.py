"""Degradations of chosen strength: ground truth is blurred, shrunk and corrupted, one step of each kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmlt_arch.data.imresize import imresize
from realsr.degradation.codecs import real_jpeg
from realsr.degradation.filters import filter_images
from realsr.degradation.kernels import KernelSample, build_kernels
from realsr.degradation.noise import gaussian_noise
from realsr.degradation.process import quantize
from realsr.degradation.resize import resize_to

Pixels = NDArray[np.uint8]

BICUBIC = "bicubic"
# By their names here; the first three smooth before they shrink. Nearest takes the pixel in the middle, which
# an even scale does not have: it then moves the image by half a pixel, too.
RESIZERS = {
    "bilinear": "bilinear_antialias",
    "Lanczos": "lanczos",
    "area": "area",
    "bilinear, aliasing": "bilinear",
    "nearest, aliasing": "nearest-exact",
}
# The shorter axis of anisotropic kernels over the longer one.
ASPECT = 1 / 3
ANGLE = 45.0
# Points per pixel of a motion's path.
_STEPS = 32


@dataclass(frozen=True, eq=False)
class Shrinking:
    """How ground truth becomes small.

    Attributes:
        name: in tables.
        kernel: blur before it, (k, k) with sum 1, k odd; None for none.
        resizer: `BICUBIC` (MATLAB's) or a key of `RESIZERS`.
    """

    name: str
    kernel: Tensor | None = None
    resizer: str = BICUBIC


@dataclass(frozen=True)
class Corruption:
    """What happens to the small image.

    Attributes:
        name: in tables.
        noise: standard deviation of Gaussian noise, of 255.
        quality: of JPEG (4:2:0); None for no JPEG.
    """

    name: str
    noise: float = 0.0
    quality: int | None = None


def gaussian_kernel(sigma: float, *, aspect: float = 1.0, angle: float = 0.0) -> Tensor:
    """A Gaussian blur.

    Args:
        sigma: standard deviation in pixels along the first axis.
        aspect: that along the second axis over `sigma`.
        angle: of the first axis, in degrees from the rows' direction.

    Returns:
        (k, k) with sum 1; k is odd and holds three standard deviations to each side.
    """
    side = 2 * math.ceil(3 * sigma) + 1
    unused = torch.full((1,), math.nan, dtype=torch.float64)
    sample = KernelSample(
        kinds=("aniso",),
        canvas=side,
        size=torch.tensor([side]),
        sigma_x=torch.tensor([sigma], dtype=torch.float64),
        sigma_y=torch.tensor([sigma * aspect], dtype=torch.float64),
        rotation=torch.tensor([math.radians(angle)], dtype=torch.float64),
        beta=unused,
        cutoff=unused,
    )
    return build_kernels(sample)[0]


def motion_kernel(length: float, *, angle: float = 0.0) -> Tensor:
    """The blur of a straight motion at constant speed: its path, dealt to the four pixels around each point.

    Args:
        length: of the path in pixels.
        angle: of the path, in degrees from the rows' direction.

    Returns:
        (k, k) with sum 1, k odd.
    """
    radius = math.ceil(length / 2) + 1
    side = 2 * radius + 1
    count = _STEPS * math.ceil(length)
    along = length * ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5)
    x, y = radius + along * math.cos(math.radians(angle)), radius + along * math.sin(math.radians(angle))
    axis = torch.arange(side, dtype=torch.float64)
    columns = (1 - (x[:, None] - axis).abs()).clamp(min=0)
    rows = (1 - (y[:, None] - axis).abs()).clamp(min=0)
    return rows.mT @ columns / count


def shrink(gt: Pixels, shrinking: Shrinking, scale: int) -> Tensor:
    """Blur and shrink.

    Args:
        gt: (H, W, 3), both multiples of the scale.
        shrinking: how.
        scale: GT size over LQ size.

    Returns:
        (1, 3, H / scale, W / scale), about 0..1, not rounded.
    """
    image = torch.from_numpy(gt.copy()).permute(2, 0, 1)[None].double() / 255
    if shrinking.kernel is not None:
        image = filter_images(image, shrinking.kernel[None])
    if shrinking.resizer == BICUBIC:
        small = imresize(image[0].permute(1, 2, 0).numpy(), 1 / scale)
        return torch.from_numpy(small).permute(2, 0, 1)[None]
    size = (gt.shape[0] // scale, gt.shape[1] // scale)
    return resize_to(image, size, RESIZERS[shrinking.resizer])


def corrupt(small: Tensor, corruption: Corruption, *, seed: int) -> Pixels:
    """Add noise, compress, round to 8 bits.

    Args:
        small: (1, 3, h, w) from `shrink`.
        corruption: how.
        seed: of the noise; one seed is one field, whatever its strength.

    Returns:
        (h, w, 3).
    """
    image = small.clamp(0, 1)
    if corruption.noise:
        generator = torch.Generator().manual_seed(seed)
        strength, gray = torch.tensor([corruption.noise]), torch.tensor([False])
        image = (image + gaussian_noise(image, strength, gray, generator=generator)).clamp(0, 1)
    image = quantize(image)
    if corruption.quality is not None:
        image = real_jpeg(image, torch.tensor([float(corruption.quality)]))
    return (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
