"""The LTE decoder as it is described: one query after the other, all four neighbors, sampled from maps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.common import conv
from reference.esc import ESC
from reference.esc_fp import ESCFP
from reference.lmlt import LMLT


class _Layers(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*parts[:-1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def centers(size: int, like: Tensor) -> Tensor:
    return (2 * torch.arange(size).to(like) + 1) / size - 1


def grid(height: int, width: int, like: Tensor) -> Tensor:
    """(height width, 2) coordinates, y before x."""
    y, x = torch.meshgrid(centers(height, like), centers(width, like), indexing="ij")
    return torch.stack([y.flatten(), x.flatten()], dim=1)


def sample(maps: Tensor, coord: Tensor, mode: str) -> Tensor:
    """(B, C, h, w) at (Q, 2) to (B, Q, C)."""
    where = coord.flip(1)[None, None].expand(maps.shape[0], -1, -1, -1)
    found = F.grid_sample(maps, where, mode=mode, padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)


def decode(
    network: Any, features: Tensor, image: Tensor, size: tuple[int, int], queries: int | None = None
) -> Tensor:
    """Features of an image in [-1, 1] to (B, 3, *size), so many queries at a time."""
    h, w = image.shape[-2:]
    sides = torch.tensor([h, w]).to(image)
    coef, freq = network.coef(features), network.freq(features)
    where = grid(h, w, image).T.reshape(1, 2, h, w).expand(image.shape[0], -1, -1, -1)
    scale = torch.tensor(size).to(image) / sides
    cell = 2 / torch.tensor(size).to(image) * torch.where(scale > 4, scale / 4, 1)
    parts = []
    for coord in grid(*size, image).split(queries or size[0] * size[1]):
        predictions, areas = [], []
        for vy in (-1, 1):
            for vx in (-1, 1):
                shifted = coord + torch.tensor([vy, vx]).to(image) / sides + 1e-6
                shifted = shifted.clamp(-1 + 1e-6, 1 - 1e-6)
                a, f, center = (sample(m, shifted, "nearest") for m in (coef, freq, where))
                r = (coord - center) * sides
                t = (f.unflatten(-1, (-1, 2)) * r[:, :, None]).sum(-1) + network.phase(cell * sides)
                basis = torch.cat([torch.cos(torch.pi * t), torch.sin(torch.pi * t)], dim=-1)
                predictions.append(network.imnet(a * basis))
                areas.append((r[..., 0] * r[..., 1]).abs()[..., None] + 1e-9)
        total = torch.stack(areas).sum(0)
        blended = sum(p * area / total for p, area in zip(predictions, reversed(areas), strict=True))
        parts.append(blended + sample(image, coord, "bilinear"))
    return torch.cat(parts, 1).transpose(1, 2).unflatten(2, size)


class _LTE(nn.Module):
    plain: Any

    def __init__(self, *, hidden_dim: int = 256, hidden_list: Any = (256, 256, 256), **encoder: Any) -> None:
        super().__init__()
        self.encoder = self.plain(**encoder, upscaling_factor=1)
        del self.encoder.to_img
        dim = encoder["dim"]
        self.coef = conv(dim, hidden_dim, 3)
        self.freq = conv(dim, hidden_dim, 3)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.imnet = _Layers([hidden_dim, *hidden_list, 3])

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 3, h, w) in [0, 1] to (B, 3, *size)."""
        image = 2 * x - 1
        return (decode(self, self.encoder.features(image), image, size) + 1) / 2


class ESCLTE(_LTE):
    plain = ESC


class ESCFPLTE(_LTE):
    plain = ESCFP


class LMLTLTE(_LTE):
    plain = LMLT
