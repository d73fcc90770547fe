"""Checks of constructor arguments: option files are written by hand."""

from __future__ import annotations

import operator
from typing import Any


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
