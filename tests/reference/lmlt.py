"""LMLT in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.common import LayerNorm, conv, cut_windows, join_windows, pad_to_multiple

WINDOW = 8
LEVELS = 4


class LevelAttention(nn.Module):
    def __init__(self, dim: int, drop: float, attn_drop: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.get_v = conv(dim, dim, 3, groups=dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        _, d, height, width = x.shape
        q, k, v = self.qkv(cut_windows(x, WINDOW)).split(d, dim=-1)
        probabilities = torch.softmax(q @ k.transpose(1, 2) * d**-0.5, dim=-1)
        as_image = v.transpose(1, 2).reshape(-1, d, WINDOW, WINDOW)
        positional = self.get_v(as_image).flatten(2).transpose(1, 2)
        out = self.proj_drop(self.proj(self.attn_drop(probabilities) @ v + positional))
        return join_windows(out, WINDOW, height, width)


class LHSB(nn.Module):
    def __init__(self, dim: int, drop: float, attn_drop: float, low_to_high: bool) -> None:
        super().__init__()
        self.low_to_high = low_to_high
        self.mfr = nn.ModuleList(LevelAttention(dim // LEVELS, drop, attn_drop) for _ in range(LEVELS))
        self.aggr = conv(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        chunks = x.chunk(LEVELS, dim=1)
        results: list[Tensor] = []
        coarser: Tensor | None = None
        for level in reversed(range(LEVELS)):
            z = F.max_pool2d(chunks[level], 2**level) if level else chunks[level]
            if coarser is not None and self.low_to_high:
                z = z + F.interpolate(coarser, scale_factor=2, mode="nearest")
            coarser = self.mfr[level](z)
            results.append(F.interpolate(coarser, scale_factor=2**level, mode="nearest"))
        gate: Tensor = F.gelu(self.aggr(torch.cat(results, dim=1)))
        return gate * x


class CCM(nn.Module):
    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.ccm = nn.Sequential(conv(dim, hidden, 3), nn.GELU(), conv(hidden, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ccm(x)
        return out


class Block(nn.Module):
    def __init__(self, dim: int, ratio: float, drop: float, attn_drop: float, low_to_high: bool) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.lhsb = LHSB(dim, drop, attn_drop, low_to_high)
        self.ccm = CCM(dim, ratio)

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = x + self.lhsb(self.norm1(x))
        mixed: Tensor = attended + self.ccm(self.norm2(attended))
        return mixed


class LMLT(nn.Module):
    def __init__(
        self,
        dim: int,
        n_blocks: int = 8,
        ffn_scale: float = 2.0,
        upscaling_factor: int = 4,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        low_to_high: bool = True,
    ) -> None:
        super().__init__()
        self.to_feat = conv(3, dim, 3)
        self.feats = nn.Sequential(
            *(Block(dim, ffn_scale, drop_rate, attn_drop_rate, low_to_high) for _ in range(n_blocks))
        )
        self.to_img = nn.Sequential(conv(dim, 3 * upscaling_factor**2, 3), nn.PixelShuffle(upscaling_factor))

    def features(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        shallow = self.to_feat(pad_to_multiple(x, WINDOW * 2 ** (LEVELS - 1)))
        deep: Tensor = self.feats(shallow) + shallow
        return deep[:, :, :height, :width]

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.to_img(self.features(x))
        return image
