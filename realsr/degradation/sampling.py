"""Sampling of the degradation: every random parameter of a batch, before anything is applied.

Sampling runs on the CPU, so that a seed gives the same parameters on every device; noise fields are made on
the images' device from a seed that is sampled here.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from realsr.degradation.camera import HALO_CANVAS, CameraNoiseSample, HaloSample
from realsr.degradation.kernels import PULSE, SINC, KernelSample
from realsr.degradation.options import (
    FINAL_SINC_CANVAS,
    RESIZE_DIRECTIONS,
    SMALLEST_KERNEL,
    DegradationOptions,
    ExtraOptions,
    KernelOptions,
    Range,
    RoundOptions,
)

# Sinc kernels of this side and more may have lower cutoff frequencies.
_LARGE_SINC = 13


@dataclass(frozen=True, kw_only=True)
class ResizeSample:
    """A resize, the same for the whole batch: up, down or keep; the factor; the mode."""

    direction: str
    factor: float
    mode: str


@dataclass(frozen=True, kw_only=True)
class NoiseSample:
    """Noise of one kind for the batch, with a strength of its own for each image.

    Attributes:
        kind: ``gaussian`` or ``poisson``.
        strength: standard deviation of 255, or the factor of Poisson noise; float32 of shape (b,).
        gray: whether the noise is the same in all channels; bool of shape (b,).
        seed: of the noise fields.
    """

    kind: str
    strength: Tensor
    gray: Tensor
    seed: int


@dataclass(frozen=True, kw_only=True)
class RoundSample:
    """One round: blur (unless ``blurred`` is false), resize, noise, compression.

    Attributes:
        blurred: whether ``kernel`` is used.
        kernel: the blur.
        resize: the resize.
        noise: the noise.
        codec: ``jpeg`` or ``webp``.
        subsampling: of JPEG's chroma.
        quality: of the codec; float32 of shape (b,).
    """

    blurred: bool
    kernel: KernelSample
    resize: ResizeSample
    noise: NoiseSample
    codec: str
    subsampling: str
    quality: Tensor


@dataclass(frozen=True, kw_only=True)
class DegradationSample:
    """The sampled parameters of one batch.

    Attributes:
        first: the first round.
        second: the second round; its JPEG runs before or after the final filter.
        sinc: the final filter.
        sinc_first: whether the last resize and the final filter come before the second JPEG.
        last_mode: mode of the last resize.
        camera: sensor noise, where the options ask for any.
        halo: oversharpening, where the options ask for any.
    """

    first: RoundSample
    second: RoundSample
    sinc: KernelSample
    sinc_first: bool
    last_mode: str
    camera: CameraNoiseSample | None = None
    halo: HaloSample | None = None

    def __len__(self) -> int:
        return len(self.sinc.kinds)


def image_seed(seed: int, name: str) -> int:
    """The seed of one image of a set, which does not depend on the other images.

    Args:
        seed: of the set.
        name: of the image.

    Returns:
        56 bits, equal on all machines.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big")


def sample_degradation(options: DegradationOptions, batch: int, generator: Generator) -> DegradationSample:
    """Sample the parameters of a batch.

    Resize, the kinds of noise, whether the second round blurs, and the order of the last steps are sampled
    once for the batch; everything else for each image, as in BasicSR.

    Args:
        options: ranges and probabilities.
        batch: number of images.
        generator: a CPU generator, the only source of chance.
    """
    extra = options.extra
    return DegradationSample(
        first=_sample_round(options.first, extra, batch, generator),
        second=_sample_round(options.second, extra, batch, generator),
        sinc=_sample_final_sinc(options.final_sinc_prob, batch, generator),
        sinc_first=_happens(0.5, generator),
        last_mode=_choose(extra.resize_modes, generator),
        # Sampled last, and only if wanted: the rest of a batch is the same with and without them.
        camera=_sample_camera_noise(extra, batch, generator) if extra.camera_noise_prob > 0 else None,
        halo=_sample_halo(extra, batch, generator) if extra.halo_prob > 0 else None,
    )


def _sample_round(
    options: RoundOptions, extra: ExtraOptions, batch: int, generator: Generator
) -> RoundSample:
    is_webp = extra.webp_prob > 0 and _happens(extra.webp_prob, generator)
    return RoundSample(
        blurred=_happens(options.blur_prob, generator),
        kernel=sample_kernels(options.kernel, batch, generator),
        resize=_sample_resize(options, extra.resize_modes, generator),
        noise=_sample_noise(options, batch, generator),
        codec="webp" if is_webp else "jpeg",
        subsampling=_choose(extra.jpeg_subsampling, generator),
        quality=_uniform(extra.webp_range if is_webp else options.jpeg_range, batch, generator).float(),
    )


def sample_kernels(options: KernelOptions, batch: int, generator: Generator) -> KernelSample:
    """Sample the parameters of one blur kernel for each image, from a CPU generator."""
    canvas = options.blur_kernel_size
    weights = torch.tensor(options.kernel_prob, dtype=torch.float64)
    chosen = torch.multinomial(weights, batch, replacement=True, generator=generator).tolist()
    is_sinc = (torch.rand(batch, generator=generator) < options.sinc_prob).tolist()
    kinds = tuple(
        SINC if sinc else options.kernel_list[index] for sinc, index in zip(is_sinc, chosen, strict=True)
    )
    size = _sample_sizes(canvas, batch, generator)
    isotropic = torch.tensor([not kind.endswith("aniso") for kind in kinds])
    sinc = torch.tensor(is_sinc)
    beta = torch.where(
        torch.tensor([kind.startswith("plateau") for kind in kinds]),
        _sample_beta(options.betap_range, batch, generator),
        _sample_beta(options.betag_range, batch, generator),
    )
    shapeless = torch.tensor([kind in ("iso", "aniso", SINC) for kind in kinds])
    lowest = torch.where(size < _LARGE_SINC, math.pi / 3, math.pi / 5)
    cutoff = lowest + (math.pi - lowest) * _uniform((0, 1), batch, generator)
    return KernelSample(
        kinds=kinds,
        canvas=canvas,
        size=size,
        sigma_x=_uniform(options.blur_sigma, batch, generator).masked_fill(sinc, math.nan),
        sigma_y=_uniform(options.blur_sigma, batch, generator).masked_fill(isotropic, math.nan),
        rotation=_uniform((-math.pi, math.pi), batch, generator).masked_fill(isotropic, math.nan),
        beta=beta.masked_fill(shapeless, math.nan),
        cutoff=cutoff.masked_fill(~sinc, math.nan),
    )


def _sample_final_sinc(probability: float, batch: int, generator: Generator) -> KernelSample:
    used = torch.rand(batch, generator=generator) < probability
    unused = torch.full((batch,), math.nan, dtype=torch.float64)
    cutoff = _uniform((math.pi / 3, math.pi), batch, generator)
    return KernelSample(
        kinds=tuple(SINC if use else PULSE for use in used.tolist()),
        canvas=FINAL_SINC_CANVAS,
        size=_sample_sizes(FINAL_SINC_CANVAS, batch, generator).masked_fill(~used, 1),
        sigma_x=unused,
        sigma_y=unused,
        rotation=unused,
        beta=unused,
        cutoff=cutoff.masked_fill(~used, math.nan),
    )


def _sample_sizes(largest: int, batch: int, generator: Generator) -> Tensor:
    count = (largest - SMALLEST_KERNEL) // 2 + 1
    return SMALLEST_KERNEL + 2 * torch.randint(count, (batch,), generator=generator)


def _sample_beta(interval: Range, batch: int, generator: Generator) -> Tensor:
    below = torch.rand(batch, generator=generator) < 0.5
    low = _uniform((interval[0], 1), batch, generator)
    return torch.where(below, low, _uniform((1, interval[1]), batch, generator))


def _sample_camera_noise(extra: ExtraOptions, batch: int, generator: Generator) -> CameraNoiseSample:
    clean = torch.rand(batch, generator=generator) >= extra.camera_noise_prob
    return CameraNoiseSample(
        shot=_uniform(extra.camera_shot_range, batch, generator).float().masked_fill(clean, 0),
        read=_uniform(extra.camera_read_range, batch, generator).float().masked_fill(clean, 0),
        seed=_sample_seed(generator),
    )


def _sample_halo(extra: ExtraOptions, batch: int, generator: Generator) -> HaloSample:
    without = torch.rand(batch, generator=generator) >= extra.halo_prob
    unused = torch.full((batch,), math.nan, dtype=torch.float64)
    kernel = KernelSample(
        kinds=("iso",) * batch,
        canvas=HALO_CANVAS,
        size=torch.full((batch,), HALO_CANVAS),
        sigma_x=_uniform(extra.halo_sigma_range, batch, generator),
        sigma_y=unused,
        rotation=unused,
        beta=unused,
        cutoff=unused,
    )
    amount = _uniform(extra.halo_amount_range, batch, generator).float()
    return HaloSample(amount=amount.masked_fill(without, 0), kernel=kernel)


def _sample_resize(options: RoundOptions, modes: tuple[str, ...], generator: Generator) -> ResizeSample:
    weights = torch.tensor(options.resize_prob, dtype=torch.float64)
    direction = RESIZE_DIRECTIONS[int(torch.multinomial(weights, 1, generator=generator))]
    low, high = options.resize_range
    interval = {"up": (1.0, high), "down": (low, 1.0), "keep": (1.0, 1.0)}[direction]
    factor = float(_uniform(interval, 1, generator))
    return ResizeSample(direction=direction, factor=factor, mode=_choose(modes, generator))


def _sample_noise(options: RoundOptions, batch: int, generator: Generator) -> NoiseSample:
    gaussian = _happens(options.gaussian_noise_prob, generator)
    interval = options.noise_range if gaussian else options.poisson_scale_range
    return NoiseSample(
        kind="gaussian" if gaussian else "poisson",
        strength=_uniform(interval, batch, generator).float(),
        gray=torch.rand(batch, generator=generator) < options.gray_noise_prob,
        seed=_sample_seed(generator),
    )


def _sample_seed(generator: Generator) -> int:
    return int(torch.randint(2**62, (1,), generator=generator))


def _uniform(interval: Range, count: int, generator: Generator) -> Tensor:
    low, high = interval
    return low + (high - low) * torch.rand(count, dtype=torch.float64, generator=generator)


def _happens(probability: float, generator: Generator) -> bool:
    return bool(torch.rand(1, dtype=torch.float64, generator=generator) < probability)


def _choose(names: tuple[str, ...], generator: Generator) -> str:
    return names[int(torch.randint(len(names), (1,), generator=generator))]
