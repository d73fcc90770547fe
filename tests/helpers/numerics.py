"""Device, precision and tolerances of the tests.

`LMLT_TEST_DEVICE` (default `cpu`) and `LMLT_TEST_DTYPE` (default `float64`) move the same tests to another
device or precision.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

DEVICE = torch.device(os.environ.get("LMLT_TEST_DEVICE", "cpu"))
DTYPE: torch.dtype = getattr(torch, os.environ.get("LMLT_TEST_DTYPE", "float64"))

# Largest difference allowed, in units of the largest expected magnitude. A network's outputs are sums over
# many thousands of terms of mixed sign, so a relative error per element would say nothing.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 8e-2}


def assert_close(actual: Tensor, expected: Tensor, *, tolerance: float | None = None, what: str = "") -> None:
    """Compare in units of the largest expected value, with the tolerance of the coarser dtype."""
    assert actual.shape == expected.shape, f"{what} shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
    if tolerance is None:
        tolerance = max(TOLERANCE[actual.dtype], TOLERANCE[expected.dtype])
    a, e = actual.detach().double().cpu(), expected.detach().double().cpu()
    assert torch.isfinite(a).all(), f"{what} has values that are not finite"
    if e.numel() == 0:
        return
    unit = float(e.abs().max()) or 1.0
    error = float((a - e).abs().max()) / unit
    assert error <= tolerance, f"{what} differs by {error:.2e} of the largest value, allowed {tolerance:.0e}"
