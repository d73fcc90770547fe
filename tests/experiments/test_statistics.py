"""Intervals of resampling against NumPy alone."""

from __future__ import annotations

import numpy as np
import pytest

from common.statistics import bootstrap, slope_interval


def test_the_interval_is_of_percentiles() -> None:
    samples = np.random.default_rng(1).normal(size=(12, 3))
    rng = np.random.default_rng(0)
    means = [samples[rng.integers(0, 12, 12)].mean() for _ in range(1000)]
    found = bootstrap(samples, lambda sample: sample.mean())
    assert found == pytest.approx((samples.mean(), *np.quantile(means, (0.025, 0.975))))
    assert found.low < found.value < found.high


def test_one_sample_has_no_spread() -> None:
    assert bootstrap([[2.0, 4.0]], lambda sample: sample.mean()) == (3, 3, 3)
    with pytest.raises(ValueError, match="no samples"):
        bootstrap([], lambda sample: sample.mean())


def test_the_slope_resamples_points() -> None:
    x = np.array([0.0, 1, 2, 3])
    rng = np.random.default_rng(0)
    y = 2 * x + np.random.default_rng(1).normal(size=4)
    whole = np.polyfit(x, y, 1)[0]
    slopes = []
    for _ in range(1000):
        at = rng.integers(0, 4, 4)
        # Resamples of one place alone have no slope.
        slopes.append(np.polyfit(x[at], y[at], 1)[0] if np.ptp(x[at]) else whole)
    assert slope_interval(x, y) == pytest.approx((whole, *np.quantile(slopes, (0.025, 0.975))))
