"""Layers that several networks use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(cin: int, cout: int, k: int, *, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, k, padding=k // 2, groups=groups)


class LayerNorm(nn.Module):
    """Over the channels of every pixel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean(1, keepdim=True)
        variance = (centered * centered).mean(1, keepdim=True)
        scale, shift = self.weight[:, None, None], self.bias[:, None, None]
        return centered / torch.sqrt(variance + 1e-6) * scale + shift


def reflect_pad(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Mirror without repeating the edge, as often as needed; a lone pixel is repeated (numpy `reflect`)."""
    height, width = x.shape[-2:]
    if max(left, right) < width and max(top, bottom) < height:
        return F.pad(x, (left, right, top, bottom), mode="reflect")
    rows = np.pad(np.arange(height), (top, bottom), mode="reflect")
    columns = np.pad(np.arange(width), (left, right), mode="reflect")
    return x[:, :, torch.from_numpy(rows).to(x.device)][..., torch.from_numpy(columns).to(x.device)]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom only."""
    height, width = x.shape[-2:]
    return reflect_pad(x, 0, -width % multiple, 0, -height % multiple)


def cut_windows(x: Tensor, w: int) -> Tensor:
    """(B, C, H, W) to (B windows, w w, C): windows and tokens row-major, batch outermost."""
    b, c, h, width = x.shape
    x = x.reshape(b, c, h // w, w, width // w, w).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(-1, w * w, c)


def join_windows(x: Tensor, w: int, height: int, width: int) -> Tensor:
    """The inverse of `cut_windows`."""
    c = x.shape[-1]
    x = x.reshape(-1, height // w, width // w, w, w, c).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(-1, c, height, width)
