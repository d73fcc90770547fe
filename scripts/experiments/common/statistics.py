"""Confidence intervals by resampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_PLACES = 3
"""Two points lie on every line, so their distance from it is no measure of the error."""


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap(samples: ArrayLike, statistic: Callable[[NDArray[np.float64]], float]) -> Interval:
    """A statistic of independent samples with its 95 % percentile bootstrap interval.

    Args:
        samples: (n, ...), resampled along the first axis.
        statistic: of an array like `samples`.

    Raises:
        ValueError: no samples.
    """
    values = np.asarray(samples, dtype=np.float64)
    if not len(values):
        raise ValueError("no samples")
    return _interval(lambda picked: float(statistic(values[picked])), len(values))


def slope_interval(x: ArrayLike, y: ArrayLike) -> Interval:
    """The slope of the line of least squares, with a 95 % percentile bootstrap interval over the points.

    Args:
        x: (n,), with at least `LEAST_PLACES` different values.
        y: (n,).

    Raises:
        ValueError: fewer.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(np.unique(x)) < LEAST_PLACES:
        raise ValueError(f"a slope with an interval needs {LEAST_PLACES} places")
    whole = _slope(x, y)

    def slope(picked: NDArray[Any]) -> float:
        # Points that are all at one place have no slope.
        return _slope(x[picked], y[picked]) if np.ptp(x[picked]) else whole

    return _interval(slope, len(x))


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.polyfit(x, y, 1)[0])


def _interval(statistic: Callable[[NDArray[Any]], float], count: int) -> Interval:
    """The interval of a statistic of sample numbers; the resampling has a fixed seed, so results repeat."""
    numbers = np.arange(count)
    value = float(statistic(numbers))
    if count < 2:
        return Interval(value, value, value)
    from scipy import stats

    found = stats.bootstrap(
        (numbers,),
        statistic,
        n_resamples=1000,
        vectorized=False,
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    return Interval(value, float(found.confidence_interval.low), float(found.confidence_interval.high))
