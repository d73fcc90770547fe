"""The degradation's part of a BasicSR option file, checked before anything is built.

The keys are those of BasicSR's ``RealESRGANModel`` (top level of the file) and ``RealESRGANDataset`` (section
``datasets: train``); what goes beyond BasicSR stands in a section ``degradation`` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmlt_arch.options import OptionError, degradation_mistakes, read_key
from lmlt_arch.options.degradation import Degradation as ExtraKeys
from lmlt_arch.options.degradation import KernelKeys, RoundKeys
from lmlt_arch.options.fields import Section
from realsr.degradation.resize import RESIZE_MODES

SMALLEST_KERNEL = 7
FINAL_SINC_CANVAS = 21

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class KernelOptions:
    """How blur kernels are drawn.

    Attributes:
        blur_kernel_size: The largest side; sides are odd numbers from 7 to this. (BasicSR reads this key and
            always takes 21, the official value.)
        kernel_list: Names of ``GAUSSIAN_KINDS``.
        kernel_prob: Their weights.
        sinc_prob: Probability of a sinc kernel instead of those.
        blur_sigma: Standard deviations in pixels.
        betag_range: Shapes of the generalized kinds; half of them are drawn below 1, half above.
        betap_range: Shapes of the plateau kinds, drawn alike.
    """

    blur_kernel_size: int
    kernel_list: tuple[str, ...]
    kernel_prob: tuple[float, ...]
    sinc_prob: float
    blur_sigma: Range
    betag_range: Range
    betap_range: Range


@dataclass(frozen=True, kw_only=True)
class RoundOptions:
    """One of the two rounds of degradation.

    Attributes:
        kernel: The blur kernels.
        blur_prob: Probability that the round blurs at all.
        resize_prob: Weights of upscaling, shrinking and keeping.
        resize_range: Factors: the first number to 1 for shrinking, 1 to the second for enlarging.
        gaussian_noise_prob: Probability of Gaussian noise; otherwise it is Poisson noise.
        noise_range: Standard deviations of Gaussian noise, of 255.
        poisson_scale_range: Factors of Poisson noise.
        gray_noise_prob: Probability that an image's noise is gray.
        jpeg_range: JPEG qualities.
    """

    kernel: KernelOptions
    blur_prob: float
    resize_prob: tuple[float, ...]
    resize_range: Range
    gaussian_noise_prob: float
    noise_range: Range
    poisson_scale_range: Range
    gray_noise_prob: float
    jpeg_range: Range


@dataclass(frozen=True, kw_only=True)
class ExtraOptions:
    """What BasicSR does not have: the section ``degradation``. The defaults are BasicSR's ways.

    Attributes:
        jpeg_backend: ``diff`` for DiffJPEG on the device, ``real`` for libjpeg on the CPU.
        jpeg_subsampling: One of these is drawn for the batch at each JPEG: ``4:4:4``, ``4:2:2``, ``4:2:0``.
        webp_prob: Probability, at each JPEG, that the batch is saved as WebP (on the CPU) instead.
        webp_range: WebP qualities.
        resize_modes: What is drawn from at each resize: ``RESIZE_MODES`` and ``EXTRA_RESIZE_MODES``.
        camera_noise_prob: Probability that an image has a sensor's noise, right after the first blur.
        camera_shot_range: Its standard deviation at full light, which takes 1 for full light.
        camera_read_range: Its standard deviation in the dark.
        halo_prob: Probability that an image is oversharpened before the first JPEG.
        halo_amount_range: How much of the detail is added to it.
        halo_sigma_range: Standard deviations in pixels of the blur that tells what is detail.
    """

    jpeg_backend: str = "diff"
    jpeg_subsampling: tuple[str, ...] = ("4:2:0",)
    webp_prob: float = 0.0
    webp_range: Range = (30.0, 95.0)
    resize_modes: tuple[str, ...] = RESIZE_MODES
    camera_noise_prob: float = 0.0
    camera_shot_range: Range = (0.01, 0.1)
    camera_read_range: Range = (0.001, 0.02)
    halo_prob: float = 0.0
    halo_amount_range: Range = (0.5, 2.0)
    halo_sigma_range: Range = (0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class DegradationOptions:
    """All that the degradation depends on, besides the scale.

    Attributes:
        first: The first round.
        second: The second round.
        final_sinc_prob: Probability of the sinc filter at the end.
        extra: What goes beyond BasicSR.
    """

    first: RoundOptions
    second: RoundOptions
    final_sinc_prob: float
    extra: ExtraOptions = field(default_factory=ExtraOptions)


def read_options(opt: Mapping[str, Any]) -> DegradationOptions:
    """Read and check the degradation's keys of an option file.

    Args:
        opt: The whole file, as YAML or BasicSR's ``parse_options`` give it.

    Raises:
        OptionError: Naming every key that is missing, misspelt, of a wrong type or impossible.
    """
    mistakes = degradation_mistakes(opt)
    if mistakes:
        raise OptionError(mistakes)
    top: Any = _section(RoundKeys, opt)
    data: Any = _section(KernelKeys, opt["datasets"]["train"])
    extra = ExtraKeys.model_validate(opt.get("degradation") or {}).model_dump(exclude_none=True)
    return DegradationOptions(
        first=_round(top, data, "", blur_prob=1.0),
        second=_round(top, data, "2", blur_prob=top.second_blur_prob),
        final_sinc_prob=data.final_sinc_prob,
        extra=ExtraOptions(**{key: _fixed(value) for key, value in extra.items()}),
    )


def read_scale(opt: Mapping[str, Any]) -> int:
    """The upscaling factor at the top level of an option file.

    Raises:
        OptionError: If it is missing or not a whole number of at least 1.
    """
    return read_key(opt, "scale")


def read_gt_usm(opt: Mapping[str, Any]) -> bool:
    """Whether the degradation starts from sharpened images: yes, unless ``gt_usm`` says no.

    ``gt_usm`` is a key of the first training stage; the second always starts from sharpened images.

    Raises:
        OptionError: If it is neither true nor false.
    """
    return read_key(opt, "gt_usm")


def _section(keys: type[Section], values: Mapping[str, Any]) -> Section:
    return keys.model_validate({key: values[key] for key in keys.model_fields if key in values})


def _round(top: Any, data: Any, suffix: str, *, blur_prob: float) -> RoundOptions:
    kernel = {name: _fixed(getattr(data, f"{name}{suffix}")) for name in KernelOptions.__dataclass_fields__}
    names = RoundOptions.__dataclass_fields__.keys() - {"kernel", "blur_prob"}
    return RoundOptions(
        kernel=KernelOptions(**kernel),
        blur_prob=blur_prob,
        **{name: _fixed(getattr(top, f"{name}{suffix}")) for name in names},
    )


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
