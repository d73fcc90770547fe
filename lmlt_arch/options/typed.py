"""Options as typed values: the degradation, the scale and the sharpening of ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmlt_arch.options.checks.needed import degradation_mistakes
from lmlt_arch.options.degradation import Degradation, KernelKeys, RoundKeys
from lmlt_arch.options.mistakes import OptionError, mistakes_in
from lmlt_arch.options.sections import Options
from realsr.degradation.options import DegradationOptions, ExtraOptions, KernelOptions, RoundOptions, keys_of


def read_key(opt: object, key: str) -> Any:
    """The checked value of a key at the top of an option file, or its default.

    Raises:
        OptionError: if it is wrong, or missing and has no default.
    """
    values = {key: opt[key]} if isinstance(opt, Mapping) and key in opt else {}
    found = [m for m in mistakes_in(Options, values) if m.place[:1] == (key,)]
    if found:
        raise OptionError(found)
    return values.get(key, Options.model_fields[key].default)


def read_scale(opt: Mapping[str, Any]) -> int:
    """The upscaling factor at the top level of an option file.

    Raises:
        OptionError: if it is missing or not a whole number of at least 1.
    """
    return read_key(opt, "scale")


def read_gt_usm(opt: Mapping[str, Any]) -> bool:
    """Whether the degradation starts from sharpened images: yes, unless ``gt_usm`` is false.

    ``gt_usm`` is a key of the first training stage; the second always starts from sharpened images.

    Raises:
        OptionError: if it is neither true nor false.
    """
    return read_key(opt, "gt_usm")


def read_degradation(opt: Mapping[str, Any]) -> DegradationOptions:
    """Read and check the degradation's keys of an option file.

    Args:
        opt: the whole file, as YAML or BasicSR's ``parse_options`` give it.

    Raises:
        OptionError: naming every key that is missing, misspelled, of a wrong type or impossible.
    """
    mistakes = degradation_mistakes(opt)
    if mistakes:
        raise OptionError(mistakes)
    keys = {**_checked(RoundKeys, opt), **_checked(KernelKeys, opt["datasets"]["train"])}
    extra = opt.get("degradation") or {}
    return DegradationOptions(
        first=_round(keys, "", blur_prob=1.0),
        second=_round(keys, "2", blur_prob=keys["second_blur_prob"]),
        final_sinc_prob=keys["final_sinc_prob"],
        extra=ExtraOptions(**_checked(Degradation, extra)),
    )


def _checked(section: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a section that have a value; those of other sections are left out."""
    given = {key: values[key] for key in section.model_fields if key in values}
    found = section.model_validate(given).model_dump(exclude_none=True)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


def _round(keys: Mapping[str, Any], suffix: str, *, blur_prob: float) -> RoundOptions:
    kernel, rest = (
        {name: keys[f"{name}{suffix}"] for name in keys_of(options)}
        for options in (KernelOptions, RoundOptions)
    )
    return RoundOptions(kernel=KernelOptions(**kernel), blur_prob=blur_prob, **rest)
