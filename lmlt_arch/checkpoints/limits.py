"""Limits on the tensors of a checkpoint: a small file must not ask for much memory or time.

Shapes are claims: a tensor of stride 0 has any size, and so has the network that would be built from it.
Each function returns words for a message, empty if there is nothing wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lmlt_arch.dtypes import dtype_name

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What weights may be stored as; networks compute in dtypes of their own."""

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_NAMED = "float32, float16, bfloat16 and float64"


def storage_mistake(state: Mapping[str, Tensor], size: int) -> str:
    """Whether tensors claim more than a file holds.

    Args:
        state: names and tensors, as they were read.
        size: bytes of the file.
    """
    storages = {}
    for name, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            kind = "quantized" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}"
            return f"{name} is no plain tensor ({kind})"
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        held = min(storage.nbytes(), size)
        if tensor.nbytes > held:
            return f"{name} would take {tensor.nbytes} bytes, and the file holds {held} of it"
    if sum(storages.values()) > size:
        return f"its tensors would take {sum(storages.values())} bytes, and the file has {size}"
    return ""


def kind_mistake(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Whether numbers are of a kind that a network would not keep: complex or whole ones for weights.

    Args:
        own: the tensors of the network.
        state: those of the file; names that only one of both has are not looked at.
    """
    for name, found in state.items():
        mine = own.get(name)
        if mine is None or found.dtype == mine.dtype:
            continue
        if mine.is_floating_point() and found.dtype not in FLOATS:
            return f"{name} is {dtype_name(found.dtype)}; weights may be {_NAMED}"
        if not mine.is_floating_point() and not _keeps(found, mine.dtype):
            return f"{name} is {dtype_name(found.dtype)}, not {dtype_name(mine.dtype)}"
    return ""


def _keeps(found: Tensor, dtype: torch.dtype) -> bool:
    """Whether a cast changes no number: a file in half precision stores its records in it, too."""
    if found.is_complex() or torch.bool in (found.dtype, dtype):
        return False
    return found.dtype in FLOATS + _INTEGERS and torch.equal(found.to(dtype).to(found.dtype), found)
