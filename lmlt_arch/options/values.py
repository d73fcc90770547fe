"""Values of arguments: checked against the default of the argument, before anything is built with them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lmlt_arch.options.mistakes import Mistake, Place

# Beyond any use, and not to be converted by every library that is given one.
_HUGE = 2**53
# Of anything that a network has, and of its blocks.
_MOST, _MOST_BLOCKS = 2**16, 2**10


def argument_mistakes(
    place: Place, given: Mapping[str, Any], function: Callable[..., Any]
) -> Iterator[Mistake]:
    """Values of another kind than the argument's default.

    An argument without a default, or whose default is None, may be anything.

    Args:
        place: of the section.
        given: its keys and values.
        function: what is called with them.
    """
    parameters = inspect.signature(function).parameters
    for key, value in given.items():
        default = parameters[key].default if key in parameters else None
        wanted = _wanted(value, default)
        if wanted:
            yield Mistake((*place, key), f"{wanted}; got {_shown(value)}")


def number_lists(place: Place, given: Mapping[str, Any], *keys: str) -> Iterator[Mistake]:
    """Those of the keys that are there and no lists of numbers above or equal to 0."""
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
            yield Mistake((*place, key), "is too large a number")


def _wanted(value: Any, default: Any) -> str | None:
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
