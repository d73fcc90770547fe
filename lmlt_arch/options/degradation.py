"""The keys of the degradation as sections of an option file, made from the dataclasses of the degradation."""

# mypy: allow-subclassing-any
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import GenericAlias
from typing import Annotated, Any, Literal, get_args, get_origin

from PIL import features
from pydantic import AfterValidator, Field, create_model

from lmlt_arch.options.fields import Number, Range, Section, Weights, Whole
from realsr.degradation.options import (
    PROBABILITY,
    DegradationOptions,
    Described,
    ExtraOptions,
    KernelOptions,
    Limits,
    RoundOptions,
    keys_of,
)

_Definition = tuple[Any, Any]


def _inside(values: list[float], limits: Limits) -> list[float]:
    (low, high), (least, most, is_open, included) = values, limits
    if least > 0 and (low < least or high > most):
        raise ValueError(f"must be at least {least:g} and at most {most:g}; got {values}")
    if low < least or (is_open and low == least):
        raise ValueError(f"must be {'above' if is_open else 'at least'} {least:g}; got {values}")
    if included is not None and not low <= included <= high:
        raise ValueError(f"must reach from at most {included:g} to at least {included:g}; got {values}")
    if high > most:
        raise ValueError(f"must be at most {most:.16g}; got {values}")
    return values


def _one_each(values: list[float], names: tuple[str, ...]) -> list[float]:
    if len(values) != len(names):
        raise ValueError(f"needs {len(names)} numbers, one for each of {', '.join(names)}; got {len(values)}")
    return values


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, such as {value + 1}; got {value}")
    return value


def _webp(value: float) -> float:
    if value > 0 and not features.check("webp"):
        raise ValueError("needs a Pillow with WebP, which the installed one lacks")
    return value


# What depends on more than the key itself.
_CHECKS: dict[str, Callable[[Any], Any]] = {"blur_kernel_size": _odd, "webp_prob": _webp}


def _annotation(kind: Any, described: Described) -> Any:
    """The type of a field of the dataclasses, as pydantic checks and converts it."""
    limits = described.limits
    if kind in (float, int) and limits is not None:
        return Annotated[Number if kind is float else Whole, Field(ge=limits.least, le=limits.most)]
    if kind == tuple[float, float] and limits is not None:
        return Annotated[Range, AfterValidator(partial(_inside, limits=limits))]
    if get_origin(kind) is Literal:
        return kind
    item = get_args(kind)[0]  # of a tuple of any length
    if get_origin(item) is Literal:
        return Annotated[GenericAlias(list, (item,)), Field(min_length=1)]
    if described.one_each:
        return Annotated[Weights, AfterValidator(partial(_one_each, names=described.one_each))]
    return Weights


def _definition(name: str, kind: Any, described: Described) -> _Definition:
    """The definition of an optional key, as `create_model` takes it."""
    annotation = _annotation(kind, described)
    if name in _CHECKS:
        annotation = Annotated[annotation, AfterValidator(_CHECKS[name])]
    return annotation | None, Field(None, description=described.text)


def _first(options: type) -> dict[str, _Definition]:
    """The keys of a dataclass."""
    return {name: _definition(name, *key) for name, key in keys_of(options).items()}


def _second(options: type) -> dict[str, _Definition]:
    """The same keys of the second round."""
    return {
        f"{name}2": _definition(name, kind, described._replace(text=f"{name} of the second round."))
        for name, (kind, described) in keys_of(options).items()
    }


def _section(definitions: dict[str, _Definition]) -> Any:
    return create_model("_Keys", __base__=Section, **definitions)  # type: ignore[call-overload]


_SECOND_BLUR = Described("Probability that the second round blurs.", PROBABILITY)
_Round: Any = _section(
    {"second_blur_prob": _definition("second_blur_prob", float, _SECOND_BLUR)}
    | _first(RoundOptions)
    | _second(RoundOptions)
)
_Kernel: Any = _section(_first(KernelOptions) | _second(KernelOptions) | _first(DegradationOptions))
_Extra: Any = _section(_first(ExtraOptions))


class RoundKeys(_Round):
    """The keys at the top of the file. They are needed where images are degraded."""


class KernelKeys(_Kernel):
    """The keys in the section of the training data. They are needed where images are degraded."""


class Degradation(_Extra):
    """What BasicSR does not have: the section `degradation`. Everything is off until it is asked for."""
