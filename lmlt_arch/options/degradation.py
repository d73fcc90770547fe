"""The keys of the degradation: those of BasicSR's `RealESRGANModel` and `RealESRGANDataset`, and our own."""

from __future__ import annotations

from typing import Annotated, Literal

from PIL import features
from pydantic import AfterValidator, Field

from lmlt_arch.options.fields import Number, Range, Section, Weights, Whole

Probability = Annotated[Number, Field(ge=0, le=1)]

Kernel = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
Resize = Literal[
    "area", "bilinear", "bicubic", "nearest", "bilinear_antialias", "bicubic_antialias", "lanczos"
]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


def _at_least(values: list[float], lowest: float) -> list[float]:
    if values[0] < lowest:
        raise ValueError(f"must be at least {lowest:g}; got {values}")
    return values


def _not_negative(values: list[float]) -> list[float]:
    return _at_least(values, 0)


def _positive(values: list[float]) -> list[float]:
    if values[0] <= 0:
        raise ValueError(f"must be above 0; got {values}")
    return values


def _at_most(values: list[float], highest: float) -> list[float]:
    if values[1] > highest:
        raise ValueError(f"must be at most {highest:.16g}; got {values}")
    return values


def _bounded(values: list[float]) -> list[float]:
    return _at_most(values, 1e4)


def _few(values: list[float]) -> list[float]:
    return _at_most(values, 100)


def _quality(values: list[float]) -> list[float]:
    if values[0] < 1 or values[1] > 100:
        raise ValueError(f"must be at least 1 and at most 100; got {values}")
    return values


def _around_one(values: list[float]) -> list[float]:
    if not values[0] <= 1 <= values[1]:
        raise ValueError(f"must reach from at most 1 to at least 1; got {values}")
    return values


def _three(values: list[float]) -> list[float]:
    if len(values) != 3:
        raise ValueError(f"needs 3 numbers, one for each of up, down, keep; got {len(values)}")
    return values


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, such as {value + 1}; got {value}")
    return value


def _webp(value: float) -> float:
    if value > 0 and not features.check("webp"):
        raise ValueError("needs a Pillow with WebP, which the installed one lacks")
    return value


Amounts = Annotated[Range, AfterValidator(_not_negative), AfterValidator(_bounded)]
Sizes = Annotated[Range, AfterValidator(_positive), AfterValidator(_bounded)]
Quality = Annotated[Range, AfterValidator(_quality)]
AroundOne = Annotated[Range, AfterValidator(_positive), AfterValidator(_around_one), AfterValidator(_few)]
Resizing = Annotated[Weights, AfterValidator(_three)]
KernelSize = Annotated[Whole, Field(ge=7, le=1025), AfterValidator(_odd)]
Kernels = Annotated[list[Kernel], Field(min_length=1)]


class RoundKeys(Section):
    """The keys at the top of the file. They are needed where images are degraded."""

    second_blur_prob: Probability | None = None
    """Probability that the second round blurs."""

    resize_prob: Resizing | None = None
    """How likely it is to enlarge, to shrink and to keep the size."""
    resize_range: AroundOne | None = None
    """Factors: the first number to 1 for shrinking, 1 to the second for enlarging."""
    gaussian_noise_prob: Probability | None = None
    """Probability of Gaussian noise; otherwise it is Poisson noise."""
    noise_range: Amounts | None = None
    """Standard deviations of Gaussian noise, of 255."""
    poisson_scale_range: Amounts | None = None
    """Factors of Poisson noise."""
    gray_noise_prob: Probability | None = None
    """Probability that an image's noise is gray."""
    jpeg_range: Quality | None = None
    """JPEG qualities."""

    resize_prob2: Resizing | None = None
    """resize_prob of the second round."""
    resize_range2: AroundOne | None = None
    """resize_range of the second round."""
    gaussian_noise_prob2: Probability | None = None
    """gaussian_noise_prob of the second round."""
    noise_range2: Amounts | None = None
    """noise_range of the second round."""
    poisson_scale_range2: Amounts | None = None
    """poisson_scale_range of the second round."""
    gray_noise_prob2: Probability | None = None
    """gray_noise_prob of the second round."""
    jpeg_range2: Quality | None = None
    """jpeg_range of the second round."""


class KernelKeys(Section):
    """The keys in the section of the training data. They are needed where images are degraded."""

    blur_kernel_size: KernelSize | None = None
    """The largest side; sides are odd numbers from 7 to this."""
    kernel_list: Kernels | None = None
    """Kinds of blur kernels."""
    kernel_prob: Weights | None = None
    """How likely each of them is."""
    sinc_prob: Probability | None = None
    """Probability of a sinc kernel instead of those."""
    blur_sigma: Sizes | None = None
    """Standard deviations in pixels."""
    betag_range: AroundOne | None = None
    """Shapes of the generalized kinds."""
    betap_range: AroundOne | None = None
    """Shapes of the plateau kinds."""

    blur_kernel_size2: KernelSize | None = None
    """blur_kernel_size of the second round."""
    kernel_list2: Kernels | None = None
    """kernel_list of the second round."""
    kernel_prob2: Weights | None = None
    """kernel_prob of the second round."""
    sinc_prob2: Probability | None = None
    """sinc_prob of the second round."""
    blur_sigma2: Sizes | None = None
    """blur_sigma of the second round."""
    betag_range2: AroundOne | None = None
    """betag_range of the second round."""
    betap_range2: AroundOne | None = None
    """betap_range of the second round."""

    final_sinc_prob: Probability | None = None
    """Probability of the sinc filter at the end."""


class Degradation(Section):
    """What BasicSR does not have: the section `degradation`. Everything is off until it is asked for."""

    jpeg_backend: Literal["diff", "real"] | None = None
    """diff (default): DiffJPEG on the device; real: libjpeg on the CPU."""
    jpeg_subsampling: Annotated[list[Subsampling], Field(min_length=1)] | None = None
    """One of these is drawn for the batch at each JPEG; default: 4:2:0 alone."""
    webp_prob: Annotated[Probability, AfterValidator(_webp)] | None = None
    """Probability, at each JPEG, that the batch is saved as WebP (on the CPU) instead."""
    webp_range: Quality | None = None
    """WebP qualities; default: 30 to 95."""
    resize_modes: Annotated[list[Resize], Field(min_length=1)] | None = None
    """What is drawn from at each resize; default: area, bilinear, bicubic."""
    camera_noise_prob: Probability | None = None
    """Probability that an image has a sensor's noise, right after the first blur."""
    camera_shot_range: Amounts | None = None
    """Its standard deviation at full light, which takes 1 for full light; default: 0.01 to 0.1."""
    camera_read_range: Amounts | None = None
    """Its standard deviation in the dark; default: 0.001 to 0.02."""
    halo_prob: Probability | None = None
    """Probability that an image is oversharpened before the first JPEG."""
    halo_amount_range: Amounts | None = None
    """How much of the detail is added to it; default: 0.5 to 2."""
    halo_sigma_range: Sizes | None = None
    """Standard deviations in pixels of the blur that tells what is detail; default: 0.5 to 2."""
