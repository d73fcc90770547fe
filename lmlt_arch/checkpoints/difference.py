"""The measure by which the outputs of two networks are compared."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference in units of the largest expected value; NaN if either contains NaN."""
    largest = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    return ((found.to(expected.dtype) - expected).abs().max() / largest).item()
