"""Straight lines through points, with confidence intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmlt_arch.experiments.interval import Interval, bootstrap

LEAST_PLACES = 3
"""Two lie on every line: nothing could be said of the error."""


def slope_interval(x: ArrayLike, y: ArrayLike) -> Interval:
    """The slope of the line of least squares, with a bootstrap interval over the points.

    Args:
        x: (n,), with at least `LEAST_PLACES` different values.
        y: (n,).

    Raises:
        ValueError: fewer.
    """
    samples = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], 1)
    if len(np.unique(samples[:, 0])) < LEAST_PLACES:
        raise ValueError(f"a slope with an interval needs {LEAST_PLACES} places")
    whole = _slope(samples)

    def slope(drawn: NDArray[np.float64]) -> float:
        # All at one place: says nothing of the slope.
        return _slope(drawn) if np.ptp(drawn[:, 0]) else whole

    return bootstrap(samples, slope)


def _slope(samples: NDArray[np.float64]) -> float:
    x, y = samples[:, 0] - samples[:, 0].mean(), samples[:, 1] - samples[:, 1].mean()
    return float((x @ y) / (x @ x))
