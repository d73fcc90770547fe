"""Constructor arguments: lists that several networks share, and checks of values written by hand."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

_P = ParamSpec("_P")
_A = TypeVar("_A")
_N = TypeVar("_N")


def positive_int(name: str, value: Any) -> int:
    """The value as a positive integer; NumPy's integers count, booleans and lists do not.

    Raises:
        ValueError: it is not one; the message names the argument.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < 1:
        raise ValueError(f"{name} must be one positive integer, got {value!r}")
    return number


def hidden_width(name: str, dim: int, ratio: float) -> int:
    """The hidden width `int(dim * ratio)`.

    Raises:
        ValueError: it is below 1; the message names the ratio.
    """
    hidden = int(dim * ratio)
    if hidden < 1:
        raise ValueError(f"{name} {ratio!r} leaves no hidden channels of dim {dim}")
    return hidden


def probability(name: str, value: float) -> float:
    """The value, if it is a dropout rate.

    Raises:
        ValueError: it is outside [0, 1); the message names the argument.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}")
    return value


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    """The value, if it is one of those known.

    Raises:
        ValueError: it is not; the message names the argument.
    """
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return value


def with_fields_of(
    arguments: Callable[_P, _A],
) -> Callable[[Callable[[_N, _A], None]], Callable[Concatenate[_N, _P], None]]:
    """Decorator: a constructor takes the fields of a dataclass, and gets them as one object.

    Its signature names every field, for `inspect.signature` as for a type checker. Its attribute `arguments`
    is the dataclass, whose docstring and those of its bases say what each field means.

    Args:
        arguments: the dataclass.
    """

    def decorate(init: Callable[[_N, _A], None]) -> Callable[Concatenate[_N, _P], None]:
        @functools.wraps(init)
        def __init__(self: _N, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
            init(self, arguments(*args, **kwargs))

        own = inspect.signature(arguments, eval_str=True).parameters.values()
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        vars(__init__)["__signature__"] = inspect.Signature([first, *own], return_annotation=None)
        vars(__init__)["arguments"] = arguments
        return __init__

    return decorate
