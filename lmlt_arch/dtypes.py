"""The floating-point types that options and commands name."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Name in options and commands -> type."""


def is_supported(name: str, device: str) -> bool:
    """Whether a device computes in a type: old GPUs have no bf16.

    Args:
        name: key of `DTYPES`.
        device: its kind, such as `cuda`.
    """
    return name != "bf16" or device != "cuda" or torch.cuda.is_bf16_supported()


def dtype_name(dtype: torch.dtype) -> str:
    """The name that PyTorch has for a type, such as `float32`."""
    return str(dtype).removeprefix("torch.")
