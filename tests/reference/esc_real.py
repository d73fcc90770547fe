"""ESC-Real and ESC-Real-M in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reference.common import conv, reflect_pad
from reference.esc import Block, LargeKernel, symmetrized
from reference.upsample import DySample, UniUpsample, nearest, stages


class ReflectDepthwise7(nn.Conv2d):
    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 7, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(reflect_pad(x, 3, 3, 3, 3))


def image_skip(cin: int, dim: int) -> list[nn.Module]:
    return [conv(cin, 2 * dim, 1), ReflectDepthwise7(2 * dim), nn.LeakyReLU(0.2), conv(2 * dim, dim, 1)]


def upscaler(dim: int, scale: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for factor in stages(scale):
        layers += [nearest(factor), conv(dim, dim, 3), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, conv(dim, dim, 3), nn.LeakyReLU(0.2), conv(dim, 3, 3))


class _Trunk(nn.Module):
    """The common forward pass; the two networks differ in the order in which their parts are registered."""

    proj: nn.Module
    blocks: nn.ModuleList
    last: nn.Module
    skip: nn.Module
    to_img: nn.Module

    def __init__(self, pdim: int, kernel_size: int) -> None:
        super().__init__()
        self.plk_filter = nn.Parameter(torch.empty(pdim, pdim, kernel_size, kernel_size))
        nn.init.orthogonal_(self.plk_filter)

    def forward(self, x: Tensor) -> Tensor:
        kernel = symmetrized(self.plk_filter)
        shallow = self.proj(x)
        deep = shallow
        for block in self.blocks:
            deep = block(deep, kernel)
        image: Tensor = self.to_img(self.last(deep) + shallow + self.skip(x))
        return image


def trunk_blocks(
    dim: int, pdim: int, n_blocks: int, conv_blocks: int, window_size: int, num_heads: int, exp_ratio: float
) -> nn.ModuleList:
    return nn.ModuleList(
        Block(
            dim,
            conv_blocks,
            window_size,
            num_heads,
            exp_ratio,
            [LargeKernel(pdim) for _ in range(conv_blocks)],
        )
        for _ in range(n_blocks)
    )


class ESCReal(_Trunk):
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
        use_dysample: bool = False,
    ) -> None:
        super().__init__(pdim, kernel_size)
        self.proj = conv(3, dim, 3)
        self.blocks = trunk_blocks(dim, pdim, n_blocks, conv_blocks, window_size, num_heads, exp_ratio)
        self.last = conv(dim, dim, 3)
        self.to_img = DySample(dim, 3, upscaling_factor) if use_dysample else upscaler(dim, upscaling_factor)
        self.skip = nn.Sequential(*image_skip(3, dim))


class ESCRealM(_Trunk):
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
        mid_dim: int = 48,
        upsampler: str = "nearest+conv",
        unshuffle_mod: bool = True,
    ) -> None:
        super().__init__(pdim, kernel_size)
        self.scale = upscaling_factor
        self.unshuffle = 4 // upscaling_factor if unshuffle_mod and upscaling_factor < 3 else 1
        cin = 3 * self.unshuffle**2
        proj, skip = conv(cin, dim, 3), image_skip(cin, dim)
        self.proj = nn.Sequential(nn.PixelUnshuffle(self.unshuffle), proj) if self.unshuffle > 1 else proj
        if self.unshuffle > 1:
            skip = [nn.PixelUnshuffle(self.unshuffle), *skip]
        self.skip = nn.Sequential(*skip)
        self.blocks = trunk_blocks(dim, pdim, n_blocks, conv_blocks, window_size, num_heads, exp_ratio)
        self.last = conv(dim, dim, 3)
        self.to_img = UniUpsample(upsampler, upscaling_factor * self.unshuffle, dim, 3, mid_dim=mid_dim)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        u = self.unshuffle
        padded = reflect_pad(x, 0, -width % u, 0, -height % u)
        return super().forward(padded)[:, :, : height * self.scale, : width * self.scale]
