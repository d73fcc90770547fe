"""Values of arguments: checked against their annotations and defaults, before anything is built with them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lmlt_arch.options.mistakes import Mistake, Place
from lmlt_arch.options.registries import parameters_of

# Beyond any use, and not to be converted by every library that is given one.
_HUGE = 2**53
# Of anything that a network has, and of its blocks.
_MOST, _MOST_BLOCKS = 2**16, 2**10

Bounds = Mapping[str, tuple[float, float]]
"""The least and the most that keys may be."""


def argument_mistakes(
    place: Place, given: Mapping[str, Any], function: Callable[..., Any]
) -> Iterator[Mistake]:
    """Values of another kind than the argument's annotation, or without one, than its default.

    An argument that has neither, or whose default is None, may be anything.

    Args:
        place: of the section.
        given: its keys and values.
        function: what is called with them.
    """
    parameters = parameters_of(function)
    for key, value in given.items():
        wanted = _wanted(value, parameters[key]) if key in parameters else None
        if wanted:
            yield Mistake((*place, key), f"{wanted}; got {_shown(value)}")


def out_of_bounds(place: Place, given: Mapping[str, Any], bounds: Bounds) -> Iterator[Mistake]:
    """Numbers, alone or in lists, below or above what a key may be."""
    for key, (least, most) in bounds.items():
        value: Any = given.get(key)
        numbers = [n for n in (value if isinstance(value, list | tuple) else [value]) if is_number(n)]
        if numbers and min(numbers) < least:
            yield Mistake((*place, key), f"must be at least {least:.16g}; got {value!r:.120}")
        elif numbers and max(numbers) > most:
            yield Mistake((*place, key), f"must be at most {most:.16g}; got {value!r:.120}")


def number_lists(place: Place, given: Mapping[str, Any], *keys: str) -> Iterator[Mistake]:
    """Those of the keys that are present and whose values are not lists of numbers from 0 on."""
    for key in keys:
        value = given.get(key)
        good = isinstance(value, list | tuple) and value and all(is_number(v) and v >= 0 for v in value)
        if key in given and not good:
            yield Mistake(
                (*place, key), f"must be a list of numbers, such as [1000, 2000]; got {_shown(value)}"
            )


def too_many(place: Place, given: Mapping[str, Any]) -> Iterator[Mistake]:
    """Arguments of a network with which building it would never end."""
    for key, value in given.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            most = _MOST_BLOCKS if "block" in str(key) else _MOST
            if is_number(number) and abs(number) > most:
                yield Mistake((*place, key), f"must be at most {most}; got {number!r:.120}")


def not_finite(opt: Mapping[str, Any], place: Place = ()) -> Iterator[Mistake]:
    """Numbers that are infinite or no numbers, anywhere, and lists within themselves."""
    if len(place) > 20:
        yield Mistake(place[:3], "is nested too deeply")
        return
    items = opt.items() if isinstance(opt, Mapping) else enumerate(opt)
    for key, value in items:
        if isinstance(value, Mapping | list | tuple):
            yield from not_finite(value, (*place, key))  # type: ignore[arg-type]
        elif isinstance(value, float) and not math.isfinite(value):
            yield Mistake((*place, key), f"must be a number; got {value!r}")
        elif isinstance(value, int | float) and abs(value) > _HUGE:
            yield Mistake(
                (*place, key), f"is too large a number: must be at most {_HUGE}; got {value!r:.120}"
            )


def _wanted(value: Any, parameter: inspect.Parameter) -> str | None:
    default = parameter.default
    kinds = _kinds(parameter.annotation)
    if default is None and kinds and NoneType not in kinds:
        kinds = (*kinds, NoneType)
    # An annotation that its own default does not fit is ignored.
    if kinds and (default is parameter.empty or _fits(default, kinds)):
        return None if _fits(value, kinds) else f"must be {' or '.join(map(_named, kinds))}"
    return _unlike(value, default)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The plain types and `Literal`s that an annotation allows; nothing if it allows others too."""
    if get_origin(annotation) in (Union, UnionType):
        parts = [_kinds(part) for part in get_args(annotation)]
        return tuple(kind for part in parts for kind in part) if all(parts) else ()
    if get_origin(annotation) is Literal:
        return (annotation,)
    return (annotation,) if annotation in (bool, int, float, str, NoneType) else ()


def _fits(value: Any, kinds: tuple[Any, ...]) -> bool:
    return any(_is(value, kind) for kind in kinds)


def _is(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return any(value == item and type(value) is type(item) for item in get_args(kind))
    if kind is float:
        return is_number(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    return {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        NoneType: "empty (~)",
    }[kind]


def _unlike(value: Any, default: Any) -> str | None:
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "must be true or false"
    if isinstance(default, int | float):
        return None if is_number(value) else "must be a number"
    if isinstance(default, str):
        return None if isinstance(value, str) else "must be text"
    if isinstance(default, tuple | list) and default and all(is_number(item) for item in default):
        good = isinstance(value, list | tuple) and all(is_number(item) for item in value)
        return None if good and len(value) == len(default) else f"must be a list of {len(default)} numbers"
    return None


def is_number(value: object) -> bool:
    """Whether a value is a number to count with, which true and false are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _shown(value: object) -> str:
    return "nothing (~)" if value is None else f"{value!r:.120}"
