"""Confidence intervals by resampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap(
    samples: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float],
    *,
    level: float = 0.95,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """A statistic of independent samples with its percentile bootstrap interval.

    Args:
        samples: (n, ...), resampled along the first axis.
        statistic: of an array like `samples`.
        level: share of intervals that hold the true value.
        rounds: how often to resample.
        seed: of the resampling, so that results repeat.

    Raises:
        ValueError: no samples.
    """
    values = np.asarray(samples, dtype=np.float64)
    if not len(values):
        raise ValueError("no samples")
    rng = np.random.default_rng(seed)
    draws = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(rounds)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(values)), float(low), float(high))
