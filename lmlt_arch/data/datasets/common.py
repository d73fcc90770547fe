"""Shared by the datasets: reading of options, and conversion of bytes to floats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def required(opt: Mapping[str, Any], key: str, *, owner: str) -> Any:
    """The value of an option that a dataset needs.

    Args:
        opt: the options.
        key: the option's name.
        owner: the dataset's registered name, for the error.

    Raises:
        ValueError: it is missing.
    """
    value = opt.get(key)
    if value is None:
        raise ValueError(f"{owner} needs the option {key}")
    return value


def channels(value: float | Sequence[float] | None, *, default: float) -> Tensor:
    """One number for each channel, to be combined with (3, h, w)."""
    return torch.as_tensor(default if value is None else value, dtype=torch.float32).reshape(-1, 1, 1)


def unit_range(images: Tensor) -> Tensor:
    """Images of uint8 as floats in 0..1, equal on every device.

    The divisor is a tensor: for a number, CUDA would multiply by its inverse, which rounds differently.
    """
    return images.float().div_(torch.full((), 255.0, device=images.device))
