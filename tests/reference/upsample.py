"""Upsamplers of the ESC-Real networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.common import conv

OPTIONS = ("conv", "pixelshuffledirect", "pixelshuffle", "nearest+conv", "dysample")


def stages(scale: int) -> list[int]:
    """Factors of the successive upscalings: one three, or twos."""
    if scale == 3:
        return [3]
    twos = scale.bit_length() - 1
    if scale != 2**twos:
        raise ValueError(f"scale {scale} is neither 3 nor a power of two")
    return [2] * twos


def nearest(factor: int) -> nn.Upsample:
    return nn.Upsample(scale_factor=factor, mode="nearest")


class DySample(nn.Module):
    def __init__(self, in_channels: int, out_ch: int, scale: int, groups: int = 4) -> None:
        super().__init__()
        if in_channels < groups or in_channels % groups:
            raise ValueError(f"{in_channels} channels cannot be cut into {groups} groups")
        self.scale, self.groups = scale, groups
        self.end_conv = conv(in_channels, out_ch, 1)
        self.offset = conv(in_channels, 2 * groups * scale**2, 1)
        self.scope = nn.Conv2d(in_channels, 2 * groups * scale**2, 1, bias=False)
        nn.init.trunc_normal_(self.offset.weight, std=0.02)
        nn.init.zeros_(self.scope.weight)
        self.register_buffer("init_pos", self.sub_pixel_centers())

    def sub_pixel_centers(self) -> Tensor:
        s = self.scale
        h = (torch.arange(s, dtype=torch.float32) - (s - 1) / 2) / s
        x = h[None, None, :].expand(self.groups, s, s)
        y = h[None, :, None].expand(self.groups, s, s)
        return torch.stack([x, y]).reshape(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        shift = self.offset(x) * torch.sigmoid(self.scope(x)) * 0.5 + self.init_pos
        # x planes of all groups, then y planes
        shift = F.pixel_shuffle(shift, self.scale).reshape(b, 2, self.groups, self.scale * height, -1)
        columns = torch.arange(width, device=x.device, dtype=x.dtype).repeat_interleave(self.scale) + 0.5
        rows = torch.arange(height, device=x.device, dtype=x.dtype).repeat_interleave(self.scale) + 0.5
        horizontal = 2 * (shift[:, 0] + columns) / width - 1
        vertical = 2 * (shift[:, 1] + rows[:, None]) / height - 1
        grid = torch.stack([horizontal, vertical], dim=-1).flatten(0, 1)
        planes = x.reshape(b * self.groups, c // self.groups, height, width)
        sampled = F.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
        image: Tensor = self.end_conv(sampled.reshape(b, c, *sampled.shape[-2:]))
        return image


class UniUpsample(nn.Sequential):
    def __init__(
        self, upsample: str, scale: int, in_dim: int, out_dim: int = 3, mid_dim: int = 48, group: int = 4
    ) -> None:
        layers: list[nn.Module] = []
        if scale == 1:
            layers += [conv(in_dim, out_dim, 3)]
        elif upsample == "pixelshuffledirect":
            layers += [conv(in_dim, out_dim * scale**2, 3), nn.PixelShuffle(scale)]
        elif upsample == "pixelshuffle":
            layers += [conv(in_dim, mid_dim, 3), nn.LeakyReLU(0.01)]
            for factor in stages(scale):
                layers += [conv(mid_dim, mid_dim * factor**2, 3), nn.PixelShuffle(factor)]
            layers += [conv(mid_dim, out_dim, 3)]
        elif upsample == "nearest+conv":
            for factor in stages(scale):
                layers += [conv(in_dim, in_dim, 3), nearest(factor), nn.LeakyReLU(0.2)]
            layers += [conv(in_dim, in_dim, 3), nn.LeakyReLU(0.2), conv(in_dim, out_dim, 3)]
        elif upsample == "dysample":
            if mid_dim != in_dim:
                layers += [conv(in_dim, mid_dim, 3), nn.LeakyReLU(0.01)]
            layers += [DySample(mid_dim, out_dim, scale, group)]
        else:
            raise ValueError(f"{upsample!r} cannot upscale by {scale}")
        super().__init__(*layers)
        record = [2, OPTIONS.index(upsample), scale, in_dim, out_dim, mid_dim, group]
        self.register_buffer("MetaUpsample", torch.tensor(record, dtype=torch.uint8))
