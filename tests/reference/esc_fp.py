"""ESC-FP in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.common import LayerNorm, conv
from reference.esc import Block, depthwise_per_image, kernel_head


class FactoredLargeKernel(nn.Module):
    def __init__(self, pdim: int) -> None:
        super().__init__()
        self.pdim = pdim
        self.proj = kernel_head(pdim, pdim // 4)

    def forward(self, x: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        a, rest = x[:, : self.pdim], x[:, self.pdim :]
        margin = spatial.shape[-1] // 2 - 1
        dynamic = F.pad(self.proj(a).reshape(-1, self.pdim, 3, 3), (margin,) * 4)
        mixed = depthwise_per_image(F.conv2d(a, channel), spatial[:, 0] + dynamic)
        return torch.cat([mixed, rest], dim=1)


class ESCFP(nn.Module):
    def __init__(
        self,
        dim: int,
        pdim: int,
        kernel_size: int,
        n_blocks: int,
        conv_blocks: int,
        window_size: int,
        num_heads: int,
        upscaling_factor: int,
        exp_ratio: float = 2,
        attn_type: str = "Naive",
    ) -> None:
        super().__init__()
        self.scale = upscaling_factor
        self.lk_channel = nn.Parameter(torch.randn(pdim, pdim, 1, 1))
        self.lk_spatial = nn.Parameter(torch.empty(pdim, 1, kernel_size, kernel_size))
        nn.init.orthogonal_(self.lk_spatial)
        self.proj = conv(3, dim, 3)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                conv_blocks,
                window_size,
                num_heads,
                exp_ratio,
                [FactoredLargeKernel(pdim) for _ in range(conv_blocks)],
                proj_ratio=1.5,
            )
            for _ in range(n_blocks)
        )
        self.ln_last = LayerNorm(dim)
        self.last = conv(dim, dim, 3)
        self.to_img = conv(dim, 3 * upscaling_factor**2, 3)

    def features(self, x: Tensor) -> Tensor:
        shallow = self.proj(x)
        deep = shallow
        for block in self.blocks:
            deep = block(deep, self.lk_channel, self.lk_spatial)
        features: Tensor = self.last(self.ln_last(deep)) + shallow
        return features

    def forward(self, x: Tensor) -> Tensor:
        deep = self.features(x)
        skip = F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return F.pixel_shuffle(self.to_img(deep), self.scale) + skip
