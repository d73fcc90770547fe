"""The second-order degradation of Real-ESRGAN (arXiv 2107.10833) for a batch, on its device."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from lmlt_arch.renamed import renamed_keyword, warn_renamed
from realsr.degradation.camera import HALO_CANVAS, add_camera_noise, add_halo
from realsr.degradation.codecs import real_jpeg, real_webp
from realsr.degradation.filters import USM_RADIUS, filter_images
from realsr.degradation.jpeg import diff_jpeg
from realsr.degradation.kernels import KernelSample, build_kernels
from realsr.degradation.noise import gaussian_noise, poisson_noise
from realsr.degradation.options import FINAL_SINC_CANVAS, DegradationOptions, RoundOptions
from realsr.degradation.precision import full_precision
from realsr.degradation.resize import resize_by, resize_to
from realsr.degradation.sampling import DegradationSample, NoiseSample, RoundSample, sample_degradation


class Stage(NamedTuple):
    """A step of the degradation, its parameters already in place."""

    name: str
    apply: Callable[[Tensor], Tensor]


class Degradation:
    """Makes LQ images as BasicSR's ``RealESRGANModel`` does, from parameters that can be sampled and kept.

    ``sample`` decides, ``apply`` computes: equal samples give equal images, and the global random state is
    not used. The stages, in order: ``blur1 resize1 noise1 jpeg1 blur2 resize2 noise2``, then either
    ``last_resize sinc jpeg2`` or ``jpeg2 last_resize sinc``, then ``quantize``; ``blur2`` is missing where
    the second round does not blur. With the extra options, ``camera`` follows ``blur1`` and ``halo`` follows
    ``noise1``.

    Args:
        options: ranges and probabilities.
        scale: size of ground truth over size of LQ.
    """

    def __init__(self, options: DegradationOptions, *, scale: int) -> None:
        self.options = options
        self.scale = scale

    def __call__(self, gt: Tensor, generator: Generator) -> tuple[Tensor, DegradationSample]:
        """Sample from a CPU generator and apply: the LQ images and the sampled parameters."""
        sample = self.sample(len(gt), generator)
        return self.apply(gt, sample), sample

    def sample(self, batch: int, generator: Generator) -> DegradationSample:
        """Sample the parameters for a batch of images from a CPU generator."""
        return sample_degradation(self.options, batch, generator)

    def draw(self, batch: int, generator: Generator) -> DegradationSample:
        """The old name of `sample`."""
        warn_renamed("Degradation.draw", "sample")
        return self.sample(batch, generator)

    @torch.no_grad()
    @renamed_keyword("draws", "sample")
    def apply(self, gt: Tensor, sample: DegradationSample) -> Tensor:
        """Degrade a batch.

        Args:
            gt: RGB of shape (b, 3, h, w), float32 or float64, values 0..1; see :func:`sharpen`.
            sample: parameters for the same number of images.

        Returns:
            Shape (b, 3, h // scale, w // scale), multiples of 1/255 in 0..1, of gt's dtype and device.

        Raises:
            ValueError: if the batch has another shape or dtype, or its images are smaller than
                ``minimum_side``.
        """
        self._check(gt, sample)
        images = gt
        with full_precision(gt.device.type):
            for stage in self.stages(sample, gt.shape[-2], gt.shape[-1]):
                images = stage.apply(images)
        return images

    @renamed_keyword("draws", "sample")
    def stages(self, sample: DegradationSample, height: int, width: int) -> list[Stage]:
        """The steps for ground truth of a height and width, in the order in which they are applied."""
        first, second = sample.first, sample.second
        small = (height // self.scale, width // self.scale)
        factor = second.resize.factor / self.scale
        before_last = (max(1, int(height * factor)), max(1, int(width * factor)))
        finish = [
            Stage("last_resize", partial(resize_to, size=small, mode=sample.last_mode)),
            _blur("sinc", sample.sinc),
        ]
        jpeg2 = [Stage("jpeg2", partial(self._compress, sample=second))]
        return [
            *_blurs("blur1", first),
            *([Stage("camera", partial(add_camera_noise, sample=sample.camera))] if sample.camera else []),
            Stage("resize1", partial(resize_by, factor=first.resize.factor, mode=first.resize.mode)),
            Stage("noise1", partial(add_noise, sample=first.noise)),
            *([Stage("halo", partial(add_halo, sample=sample.halo))] if sample.halo else []),
            Stage("jpeg1", partial(self._compress, sample=first)),
            *_blurs("blur2", second),
            Stage("resize2", partial(resize_to, size=before_last, mode=second.resize.mode)),
            Stage("noise2", partial(add_noise, sample=second.noise)),
            *(finish + jpeg2 if sample.sinc_first else jpeg2 + finish),
            Stage("quantize", quantize),
        ]

    @property
    def minimum_side(self) -> int:
        """The smallest side of ground truth that survives the strongest shrinking, in pixels."""
        first, second = self.options.first, self.options.second
        # The smallest sides whose borders can be reflected, for each filter of the shrunken images.
        blur2 = _reach(second.kernel.blur_kernel_size) if second.blur_prob > 0 else 1
        halo = _reach(HALO_CANVAS) if self.options.extra.halo_prob > 0 else 1
        return max(
            _reach(first.kernel.blur_kernel_size),
            math.ceil(max(blur2, halo) / _lowest_factor(first)),
            _reach(FINAL_SINC_CANVAS) * self.scale,
        )

    def _compress(self, images: Tensor, sample: RoundSample) -> Tensor:
        images = images.clamp(0, 1)
        if sample.codec == "webp":
            return real_webp(images, sample.quality)
        compress = real_jpeg if self.options.extra.jpeg_backend == "real" else diff_jpeg
        return compress(images, sample.quality, subsampling=sample.subsampling)

    def _check(self, gt: Tensor, sample: DegradationSample) -> None:
        if gt.ndim != 4 or gt.shape[1] != 3 or gt.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the degradation needs RGB of shape (b, 3, h, w) in float32 or float64; "
                f"got {tuple(gt.shape)} in {gt.dtype}"
            )
        if len(gt) != len(sample):
            raise ValueError(f"the sample is for {len(sample)} images, but the batch has {len(gt)}")
        if min(gt.shape[-2:]) < self.minimum_side:
            raise ValueError(
                f"images of {gt.shape[-1]}x{gt.shape[-2]} are too small for this degradation: "
                f"both sides need at least {self.minimum_side} pixels"
            )


def add_noise(images: Tensor, sample: NoiseSample) -> Tensor:
    """Add the sampled noise to (b, 3, h, w) and clip to 0..1."""
    generator = Generator(images.device).manual_seed(sample.seed)
    make = gaussian_noise if sample.kind == "gaussian" else poisson_noise
    return (images + make(images, sample.strength, sample.gray, generator=generator)).clamp(0, 1)


def quantize(images: Tensor) -> Tensor:
    """Round to 8 bits: multiples of 1/255 in 0..1."""
    return (images * 255).round().clamp(0, 255) / 255


def _blurs(name: str, sample: RoundSample) -> list[Stage]:
    return [_blur(name, sample.kernel)] if sample.blurred else []


def _blur(name: str, sample: KernelSample) -> Stage:
    return Stage(name, lambda images: filter_images(images, build_kernels(sample)))


def needed_side(degradation: Degradation, *, sharpened: bool) -> int:
    """The smallest side of an image that can be degraded, a multiple of the scale, in pixels.

    Args:
        degradation: the degradation.
        sharpened: whether it starts from a sharpened image.
    """
    needed = max(degradation.minimum_side, USM_RADIUS + 1 if sharpened else 1)
    return -(-needed // degradation.scale) * degradation.scale


def _reach(kernel_size: int) -> int:
    return kernel_size // 2 + 1


def _lowest_factor(options: RoundOptions) -> float:
    return options.resize_range[0] if options.resize_prob[1] > 0 else 1.0
