"""The degradation's part of a BasicSR option file, checked before anything is built.

The keys are those of BasicSR's ``RealESRGANModel`` (top level of the file) and ``RealESRGANDataset`` (section
``datasets: train``); what goes beyond BasicSR stands in a section ``degradation`` of its own.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import features

from realsr.degradation.jpeg import SUBSAMPLING
from realsr.degradation.kernels import GAUSSIAN_KINDS
from realsr.degradation.resize import EXTRA_RESIZE_MODES, RESIZE_MODES

SMALLEST_KERNEL = 7
FINAL_SINC_CANVAS = 21
JPEG_BACKENDS = ("diff", "real")

Range = tuple[float, float]

# Keys that either round has, the second one's with a 2 at the end.
_ROUND_KEYS = (
    "resize_prob",
    "resize_range",
    "gaussian_noise_prob",
    "noise_range",
    "poisson_scale_range",
    "gray_noise_prob",
    "jpeg_range",
    "blur_kernel_size",
    "kernel_list",
    "kernel_prob",
    "sinc_prob",
    "blur_sigma",
    "betag_range",
    "betap_range",
)
# None of these is a slip of the pen for another.
_KNOWN_KEYS = frozenset(
    [*_ROUND_KEYS, *(f"{key}2" for key in _ROUND_KEYS), "second_blur_prob", "final_sinc_prob", "scale"]
)


class OptionError(ValueError):
    """An option that cannot be used; the message names the key and the mend."""


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
        resize_prob: Weights of enlarging, shrinking and keeping.
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
        OptionError: For the first key that is missing, misspelt, of a wrong type or impossible.
    """
    top = _Section(opt, "")
    train = top.section("datasets").section("train")
    return DegradationOptions(
        first=_read_round(top, train, "", blur_prob=1.0),
        second=_read_round(top, train, "2", blur_prob=top.probability("second_blur_prob")),
        final_sinc_prob=train.probability("final_sinc_prob"),
        extra=_read_extra(top),
    )


def read_scale(opt: Mapping[str, Any]) -> int:
    """The upscaling factor at the top level of an option file.

    Raises:
        OptionError: If it is missing or not a whole number of at least 1.
    """
    return _Section(opt, "").whole("scale", lowest=1)


def read_gt_usm(opt: Mapping[str, Any]) -> bool:
    """Whether the degradation starts from sharpened images: yes, unless ``gt_usm`` says no.

    ``gt_usm`` is a key of the first training stage; the second always starts from sharpened images.

    Raises:
        OptionError: If it is neither true nor false.
    """
    return _Section(opt, "").switch("gt_usm", default=True)


def _read_round(top: _Section, train: _Section, suffix: str, *, blur_prob: float) -> RoundOptions:
    return RoundOptions(
        kernel=_read_kernel(train, suffix),
        blur_prob=blur_prob,
        resize_prob=top.weights(f"resize_prob{suffix}", count=3, of="up, down, keep"),
        resize_range=_around_one(top, f"resize_range{suffix}"),
        gaussian_noise_prob=top.probability(f"gaussian_noise_prob{suffix}"),
        noise_range=top.interval(f"noise_range{suffix}", lowest=0),
        poisson_scale_range=top.interval(f"poisson_scale_range{suffix}", lowest=0),
        gray_noise_prob=top.probability(f"gray_noise_prob{suffix}"),
        jpeg_range=top.interval(f"jpeg_range{suffix}", lowest=1, highest=100),
    )


def _read_kernel(train: _Section, suffix: str) -> KernelOptions:
    size_key = f"blur_kernel_size{suffix}"
    size = train.whole(size_key, lowest=SMALLEST_KERNEL)
    if size % 2 == 0:
        raise train.error(size_key, f"must be odd, such as {size + 1}; got {size}")
    kinds = train.names(f"kernel_list{suffix}", GAUSSIAN_KINDS)
    return KernelOptions(
        blur_kernel_size=size,
        kernel_list=kinds,
        kernel_prob=train.weights(f"kernel_prob{suffix}", count=len(kinds), of=f"kernel_list{suffix}"),
        sinc_prob=train.probability(f"sinc_prob{suffix}"),
        blur_sigma=train.interval(f"blur_sigma{suffix}", above=0),
        betag_range=_around_one(train, f"betag_range{suffix}"),
        betap_range=_around_one(train, f"betap_range{suffix}"),
    )


def _around_one(section: _Section, key: str) -> Range:
    low, high = section.interval(key, above=0)
    if not low <= 1 <= high:
        raise section.error(key, f"must reach from at most 1 to at least 1; got [{low:g}, {high:g}]")
    return low, high


def _read_extra(top: _Section) -> ExtraOptions:
    extra = top.section_with_defaults("degradation", asdict(ExtraOptions()))
    options = ExtraOptions(
        jpeg_backend=extra.choice("jpeg_backend", JPEG_BACKENDS),
        jpeg_subsampling=extra.names("jpeg_subsampling", tuple(SUBSAMPLING)),
        webp_prob=extra.probability("webp_prob"),
        webp_range=extra.interval("webp_range", lowest=1, highest=100),
        resize_modes=extra.names("resize_modes", RESIZE_MODES + EXTRA_RESIZE_MODES),
        camera_noise_prob=extra.probability("camera_noise_prob"),
        camera_shot_range=extra.interval("camera_shot_range", lowest=0),
        camera_read_range=extra.interval("camera_read_range", lowest=0),
        halo_prob=extra.probability("halo_prob"),
        halo_amount_range=extra.interval("halo_amount_range", lowest=0),
        halo_sigma_range=extra.interval("halo_sigma_range", above=0),
    )
    if options.webp_prob > 0 and not features.check("webp"):
        raise extra.error("webp_prob", "needs a Pillow with WebP, which the installed one lacks")
    return options


class _Section:
    """A mapping of an option file, with the place at which it stands for error messages."""

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, Mapping):
            where = f"section {path!r}" if path else "the option file"
            raise OptionError(f"{where} must hold keys and values, but is {values!r}")
        self.values: Mapping[str, Any] = values
        self.path = path

    def error(self, key: str, message: str) -> OptionError:
        return OptionError(f"{self._place(key)} {message}")

    def _place(self, key: str) -> str:
        return f"{self.path}: {key}" if self.path else key

    def _required(self, key: str) -> Any:
        if key in self.values:
            return self.values[key]
        hint = ""
        close = _closest(key, [str(other) for other in self.values if other not in _KNOWN_KEYS])
        if close:
            hint = f"; did you mean it by {self._place(close)!r}?"
        raise OptionError(f"the key {self._place(key)!r} is missing{hint}")

    def section(self, key: str) -> _Section:
        return _Section(self._required(key), self._place(key))

    def section_with_defaults(self, key: str, defaults: Mapping[str, Any]) -> _Section:
        """A section that may be missing or empty, and may hold no other keys than those with defaults."""
        given = self.values.get(key)
        section = _Section({} if given is None else given, self._place(key))
        for name in section.values:
            if name not in defaults:
                close = _closest(str(name), defaults)
                hint = f"did you mean {close!r}? " if close else ""
                place = section._place(name)
                raise OptionError(f"unknown key {place!r}; {hint}Known: {', '.join(defaults)}")
        return _Section({**defaults, **section.values}, section.path)

    def whole(self, key: str, *, lowest: int) -> int:
        value = self._required(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise self.error(key, f"must be a whole number of at least {lowest}; got {value!r}")
        return value

    def switch(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false; got {value!r}")
        return value

    def choice(self, key: str, known: Sequence[str]) -> str:
        return self._known(key, self._required(key), known)

    def probability(self, key: str) -> float:
        value = self._number(key, self._required(key))
        if not 0 <= value <= 1:
            raise self.error(key, f"is a probability, 0 to 1; got {value:g}")
        return value

    def weights(self, key: str, *, count: int, of: str) -> tuple[float, ...]:
        values = self._numbers(key, self._required(key))
        if len(values) != count:
            raise self.error(key, f"needs {count} numbers, one for each of {of}; got {len(values)}")
        if min(values) < 0 or sum(values) <= 0:
            raise self.error(key, f"must not hold negative numbers, nor zeros alone; got {list(values)}")
        return values

    def interval(
        self, key: str, *, lowest: float = -math.inf, above: float = -math.inf, highest: float = math.inf
    ) -> Range:
        values = self._numbers(key, self._required(key))
        if len(values) != 2 or values[0] > values[1]:
            raise self.error(key, f"must be two numbers, the smaller first; got {list(values)}")
        low, high = values
        if low < lowest or high > highest or low <= above:
            bounds = [f"at least {lowest:g}"] if lowest > -math.inf else []
            bounds += [f"above {above:g}"] if above > -math.inf else []
            bounds += [f"at most {highest:g}"] if highest < math.inf else []
            raise self.error(key, f"must be {' and '.join(bounds)}; got [{low:g}, {high:g}]")
        return low, high

    def names(self, key: str, known: Sequence[str]) -> tuple[str, ...]:
        values = self._required(key)
        if not isinstance(values, list | tuple) or not values:
            raise self.error(key, f"must be a list of names; got {values!r}")
        return tuple(self._known(key, value, known) for value in values)

    def _known(self, key: str, value: object, known: Sequence[str]) -> str:
        if value in known:
            return str(value)
        close = _closest(str(value), known)
        hint = f"did you mean {close!r}? " if close else ""
        raise self.error(key, f"does not know {value!r}; {hint}Known: {', '.join(known)}")

    def _numbers(self, key: str, values: object) -> tuple[float, ...]:
        if not isinstance(values, list | tuple) or not values:
            raise self.error(key, f"must be a list of numbers; got {values!r}")
        return tuple(self._number(key, value) for value in values)

    def _number(self, key: str, value: object) -> float:
        # YAML leaves numbers such as 5e-1 as text.
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if math.isfinite(number):
                return number
        raise self.error(key, f"needs a number; got {value!r}")


def _closest(name: str, known: Collection[str]) -> str | None:
    close = difflib.get_close_matches(name, [str(key) for key in known], n=1, cutoff=0.7)
    return close[0] if close else None
