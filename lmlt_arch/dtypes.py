"""The floating-point types that options and commands name."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Name in options and commands -> type."""


def dtype_name(dtype: torch.dtype) -> str:
    """The name that PyTorch has for a type, such as `float32`."""
    return str(dtype).removeprefix("torch.")
