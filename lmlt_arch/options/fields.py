"""Types of the values in option files, and the base classes of sections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

# Of one machine.
_MOST_GPUS = 1024
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)

LONGEST = 2**53
"""The largest number of iterations and other counts: larger ones are not exact as numbers of JSON."""

LARGEST_SIDE = 65536
"""The largest side of crops to train on."""


class Section(BaseModel):
    """A section of an option file: no other keys than these, and no guessing at types."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )


class Part(Section):
    """A section that names a `type` and gives the arguments of its constructor."""

    model_config = ConfigDict(extra="allow")

    type: str
    """What to build, by its registered name."""


def with_numbers(value: Any) -> Any:
    """A copy in which numbers that YAML left as text, such as `5e-4`, are numbers."""
    if isinstance(value, Mapping):
        return {key: with_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_numbers(item) for item in value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() else number
    return value


def _number(value: Any) -> Any:
    return with_numbers(value) if isinstance(value, str) else value


def _whole(value: Any) -> Any:
    value = _number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number_for_the_loop(value: Any) -> Any:
    """BasicSR's training loop reads its own copy of the options, so converting text here would not help."""
    if isinstance(value, str) and (number := with_numbers(value)) != value:
        raise ValueError(f"is {value!r}: YAML read it as text; write {number}")
    return _whole(value)


def _increasing(values: list[float]) -> list[float]:
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError(f"must be two numbers, the smaller first; got {values}")
    return values


def _any_of(values: list[float]) -> list[float]:
    if not values or min(values) < 0 or sum(values) <= 0:
        raise ValueError(f"must not hold negative numbers, nor zeros alone; got {values}")
    return values


Number = Annotated[float, BeforeValidator(_number)]
"""A number, also one that YAML left as text."""

Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number; 5000.0 (`!!float 5e3`) is one."""

LoopWhole = Annotated[int, BeforeValidator(_number_for_the_loop)]
"""A whole number that BasicSR's loop reads."""

LoopNumber = Annotated[float, BeforeValidator(_number_for_the_loop)]
"""A number that BasicSR's own code reads."""

Range = Annotated[list[Number], AfterValidator(_increasing)]
"""Two numbers, the smaller first."""

Weights = Annotated[list[Number], AfterValidator(_any_of)]
"""How likely each of several things is, relatively."""


def _gpus(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        if value != "auto" and value > _MOST_GPUS:
            raise ValueError(f"must be at most {_MOST_GPUS}; got {value!r:.120}")
        return value
    raise ValueError(f"must be auto or a number of GPUs, 0 for the CPU; got {value!r:.120}")


def _paths(value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    if values and all(isinstance(item, str) for item in values):
        return value
    raise ValueError(f"must be a path or a list of paths; got {value!r}")


def _scale(value: Any) -> Any:
    values = with_numbers(value if isinstance(value, list) else [value, value])
    if len(values) == 2 and all(isinstance(v, int | float) and v >= 1 for v in values):
        return value
    raise ValueError(f"must be a number of at least 1, or [vertical, horizontal]; got {value!r}")


def _name(value: str) -> str:
    parts = value.replace("\\", "/").split("/")
    if not value.isprintable() or ".." in parts or value == "." or len(value.encode()) > 200:
        raise ValueError(f"must be good as the name of a folder; got {value!r:.120}")
    return value


Name = Annotated[str, AfterValidator(_name)]
"""A text that is used as the name of a folder or a part of one."""

# The pattern stands before the check: behind it, the schema for editors would lack it.
FilePart = Annotated[str, Field(pattern=r"^[^/\\]*$"), AfterValidator(_name)]
"""A text that is a part of the name of a file, and leads to no other folder."""

Scale = Annotated[
    Any,
    BeforeValidator(_scale),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 1},
                {"type": "array", "items": {"type": "number", "minimum": 1}, "minItems": 2, "maxItems": 2},
            ]
        }
    ),
]
"""A scale, or the vertical and the horizontal one."""

Gpus = Annotated[
    Any,
    BeforeValidator(_gpus),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 0, "maximum": _MOST_GPUS}]}),
]
"""`auto`, or how many."""

Paths = Annotated[
    Any,
    BeforeValidator(_paths),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""A path or several."""
