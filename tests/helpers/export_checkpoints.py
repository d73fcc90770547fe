"""Weights for the tests of export and conversion."""

from __future__ import annotations

import torch
from helpers.small.networks import SMALL
from torch import Tensor


def shallow_state(name: str) -> dict[str, Tensor]:
    """A small network of one block, because tracing time grows with the graph and blocks repeat."""
    small = SMALL[name]
    depth = {key: 1 for key in ("n_blocks", "conv_blocks") if key in small.kwargs}
    return {key: value.cpu() for key, value in small.filled(torch.float32, **depth).state_dict().items()}
