"""Loading the weights of another scale into ESC or ESC-FP."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def bilinear_matrix(old: int, new: int) -> np.ndarray:
    """(new, old) weights of a linear resize with pixel centers at half-integers and replicated borders."""
    matrix = np.zeros((new, old))
    for row in range(new):
        position = min(max((row + 0.5) * old / new - 0.5, 0.0), old - 1.0)
        low = min(int(position), max(old - 2, 0))
        matrix[row, low] += 1 - (position - low)
        matrix[row, min(low + 1, old - 1)] += position - low
    return matrix


def resized_rows(value: Tensor, old: int, new: int) -> Tensor:
    """See the rows as three old x old pictures, one per color, and resize each."""
    matrix = bilinear_matrix(old, new)
    pictures = value.double().numpy().reshape(3, old, old, -1)
    resized = np.einsum("yi,xj,cijn->cyxn", matrix, matrix, pictures)
    return torch.from_numpy(resized.reshape(3 * new * new, *value.shape[1:])).to(value.dtype)


def rescaled_state(state: dict[str, Tensor], new: int) -> dict[str, Tensor]:
    """A copy of the state whose last convolution upscales by `new`."""
    old = int((state["to_img.weight"].shape[0] // 3) ** 0.5)
    ends = {name: resized_rows(state[name], old, new) for name in ("to_img.weight", "to_img.bias")}
    return {**state, **ends}
