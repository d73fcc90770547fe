"""The options of the degradation: keys, limits, defaults and descriptions, without torch.

The keys are those of BasicSR's ``RealESRGANModel`` (top level of an option file) and ``RealESRGANDataset``
(section ``datasets: train``); what goes beyond BasicSR is in a section ``degradation`` of its own.
`lmlt_arch.options` makes its schema from these dataclasses, and reads files into them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

Range = tuple[float, float]
Kernel = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
Resize = Literal[
    "area", "bilinear", "bicubic", "nearest", "bilinear_antialias", "bicubic_antialias", "lanczos"
]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

GAUSSIAN_KINDS: tuple[Kernel, ...] = get_args(Kernel)

RESIZE_MODES: tuple[Resize, ...] = ("area", "bilinear", "bicubic")
"""BasicSR's modes, of which only "area" smooths before it shrinks."""

EXTRA_RESIZE_MODES: tuple[Resize, ...] = ("nearest", "bilinear_antialias", "bicubic_antialias", "lanczos")
"""More modes, as found in cameras, browsers and image editors."""

RESIZE_DIRECTIONS = ("up", "down", "keep")
SMALLEST_KERNEL = 7
FINAL_SINC_CANVAS = 21


class Limits(NamedTuple):
    """The values that a number, or both numbers of a range, may have.

    Attributes:
        least: the smallest value.
        most: the largest value.
        is_open: whether ``least`` itself is excluded.
        includes: a value that a range must include.
    """

    least: float
    most: float
    is_open: bool = False
    includes: float | None = None


class Described(NamedTuple):
    """Description of a key of an option file.

    Attributes:
        text: one sentence about the key.
        limits: of its numbers.
        one_each: it needs one number for each of these.
    """

    text: str
    limits: Limits | None = None
    one_each: tuple[str, ...] = ()


PROBABILITY = Limits(0, 1)
_AMOUNTS = Limits(0, 1e4)
_SIZES = Limits(0, 1e4, is_open=True)
_QUALITY = Limits(1, 100)
_AROUND_ONE = Limits(0, 100, is_open=True, includes=1)
_KERNEL_SIZE = Limits(SMALLEST_KERNEL, 1025)


@dataclass(frozen=True, kw_only=True)
class KernelOptions:
    """How blur kernels are sampled. The second round has the same keys with a 2 at the end."""

    # BasicSR reads this key and always takes 21, the official value.
    blur_kernel_size: Annotated[
        int, Described("The largest side; sides are odd numbers from 7 to this.", _KERNEL_SIZE)
    ]
    kernel_list: Annotated[tuple[Kernel, ...], Described("Kinds of blur kernels.")]
    kernel_prob: Annotated[tuple[float, ...], Described("How likely each of them is.")]
    sinc_prob: Annotated[float, Described("Probability of a sinc kernel instead of those.", PROBABILITY)]
    blur_sigma: Annotated[Range, Described("Standard deviations in pixels.", _SIZES)]
    # Half of the shapes are below 1, half above.
    betag_range: Annotated[Range, Described("Shapes of the generalized kinds.", _AROUND_ONE)]
    betap_range: Annotated[Range, Described("Shapes of the plateau kinds.", _AROUND_ONE)]


@dataclass(frozen=True, kw_only=True)
class RoundOptions:
    """One of the two rounds of degradation. The second round has the same keys with a 2 at the end.

    Attributes:
        kernel: the blur kernels.
        blur_prob: probability that the round blurs: 1 for the first, ``second_blur_prob`` for the second.
    """

    kernel: KernelOptions
    blur_prob: float
    resize_prob: Annotated[
        tuple[float, ...],
        Described("How likely it is to enlarge, to shrink and to keep the size.", one_each=RESIZE_DIRECTIONS),
    ]
    resize_range: Annotated[
        Range,
        Described(
            "Factors: the first number to 1 for shrinking, 1 to the second for enlarging.", _AROUND_ONE
        ),
    ]
    gaussian_noise_prob: Annotated[
        float, Described("Probability of Gaussian noise; otherwise it is Poisson noise.", PROBABILITY)
    ]
    noise_range: Annotated[Range, Described("Standard deviations of Gaussian noise, of 255.", _AMOUNTS)]
    poisson_scale_range: Annotated[Range, Described("Factors of Poisson noise.", _AMOUNTS)]
    gray_noise_prob: Annotated[float, Described("Probability that an image's noise is gray.", PROBABILITY)]
    jpeg_range: Annotated[Range, Described("JPEG qualities.", _QUALITY)]


@dataclass(frozen=True, kw_only=True)
class ExtraOptions:
    """The section ``degradation``: what BasicSR does not have. The defaults give BasicSR's degradation."""

    jpeg_backend: Annotated[
        Literal["diff", "real"],
        Described("diff (default): DiffJPEG on the device; real: libjpeg on the CPU."),
    ] = "diff"
    jpeg_subsampling: Annotated[
        tuple[Subsampling, ...],
        Described("One of these is drawn for the batch at each JPEG; default: 4:2:0 alone."),
    ] = ("4:2:0",)
    webp_prob: Annotated[
        float,
        Described(
            "Probability, at each JPEG, that the batch is saved as WebP (on the CPU) instead.", PROBABILITY
        ),
    ] = 0.0
    webp_range: Annotated[Range, Described("WebP qualities; default: 30 to 95.", _QUALITY)] = (30.0, 95.0)
    resize_modes: Annotated[
        tuple[Resize, ...],
        Described("What is drawn from at each resize; default: area, bilinear, bicubic."),
    ] = RESIZE_MODES
    camera_noise_prob: Annotated[
        float,
        Described("Probability that an image has a sensor's noise, right after the first blur.", PROBABILITY),
    ] = 0.0
    camera_shot_range: Annotated[
        Range,
        Described(
            "Its standard deviation at full light, which takes 1 for full light; default: 0.01 to 0.1.",
            _AMOUNTS,
        ),
    ] = (0.01, 0.1)
    camera_read_range: Annotated[
        Range, Described("Its standard deviation in the dark; default: 0.001 to 0.02.", _AMOUNTS)
    ] = (0.001, 0.02)
    halo_prob: Annotated[
        float, Described("Probability that an image is oversharpened before the first JPEG.", PROBABILITY)
    ] = 0.0
    halo_amount_range: Annotated[
        Range, Described("How much of the detail is added to it; default: 0.5 to 2.", _AMOUNTS)
    ] = (0.5, 2.0)
    halo_sigma_range: Annotated[
        Range,
        Described(
            "Standard deviations in pixels of the blur that tells what is detail; default: 0.5 to 2.", _SIZES
        ),
    ] = (0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class DegradationOptions:
    """All options of the degradation, besides the scale.

    Attributes:
        first: the first round.
        second: the second round.
        extra: what goes beyond BasicSR.
    """

    first: RoundOptions
    second: RoundOptions
    final_sinc_prob: Annotated[float, Described("Probability of the sinc filter at the end.", PROBABILITY)]
    extra: ExtraOptions = field(default_factory=ExtraOptions)


def keys_of(options: type) -> dict[str, tuple[Any, Described]]:
    """The fields of one of these dataclasses that are keys of an option file: type and description."""
    hints = get_type_hints(options, include_extras=True)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}
