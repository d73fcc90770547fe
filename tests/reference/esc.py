"""ESC in plain PyTorch, and the parts that its variants share."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.common import LayerNorm, conv, cut_windows, join_windows, pad_to_multiple


def symmetrized(kernel: Tensor) -> Tensor:
    """Average over the 4 rotations of the kernel and of its mirror image."""
    views = [torch.rot90(side, turns, (2, 3)) for side in (kernel, kernel.flip(3)) for turns in range(4)]
    return torch.stack(views).mean(0)


@lru_cache
def relative_index(w: int, device: torch.device) -> Tensor:
    """(w w, w w) columns of the bias table; the offset is key minus query."""
    side = torch.arange(w, device=device)
    rows, columns = (g.flatten() for g in torch.meshgrid(side, side, indexing="ij"))
    dy = rows[None, :] - rows[:, None] + w - 1
    dx = columns[None, :] - columns[:, None] + w - 1
    return dy * (2 * w - 1) + dx


class WindowAttention(nn.Module):
    def __init__(self, dim: int, window_size: int, num_heads: int) -> None:
        super().__init__()
        self.window_size, self.num_heads = window_size, num_heads
        self.relative_position_bias = nn.Parameter(0.001 * torch.randn(num_heads, (2 * window_size - 1) ** 2))
        self.to_qkv = conv(dim, 3 * dim, 1)
        self.to_out = conv(dim, dim, 1)

    def heads(self, x: Tensor) -> Tensor:
        """(B, heads c, H, W) to (B windows, heads, tokens, c)."""
        tokens = cut_windows(x, self.window_size)
        return tokens.reshape(*tokens.shape[:2], self.num_heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = pad_to_multiple(x, self.window_size)
        q, k, v = (self.heads(part) for part in self.to_qkv(x).chunk(3, dim=1))
        index = relative_index(self.window_size, x.device)
        bias = self.relative_position_bias[:, index]
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
        out = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2)
        out = join_windows(out, self.window_size, *x.shape[-2:])
        projected: Tensor = self.to_out(out[:, :, :height, :width])
        return projected


class ConvFFN(nn.Module):
    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.proj = conv(dim, hidden, 1)
        self.dwc = conv(hidden, hidden, 3, groups=hidden)
        self.aggr = conv(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.gelu(self.proj(x))
        out: Tensor = self.aggr(F.gelu(self.dwc(a)) + a)
        return out


def kernel_head(pdim: int, bottleneck: int) -> nn.Sequential:
    """An image's average to its own 3 x 3 depth-wise kernel."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), conv(pdim, bottleneck, 1), nn.GELU(), conv(bottleneck, 9 * pdim, 1)
    )


def depthwise_per_image(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve image b of (B, C, H, W) with kernel b of (B, C, k, k), every channel with its own."""
    b, c = x.shape[:2]
    k = kernels.shape[-1]
    out = F.conv2d(
        x.reshape(1, b * c, *x.shape[2:]), kernels.reshape(b * c, 1, k, k), padding=k // 2, groups=b * c
    )
    return out.reshape(x.shape)


class LargeKernel(nn.Module):
    def __init__(self, pdim: int) -> None:
        super().__init__()
        self.pdim = pdim
        self.dwc_proj = kernel_head(pdim, pdim // 2)
        for parameter in self.dwc_proj[3].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        a, rest = x[:, : self.pdim], x[:, self.pdim :]
        static = F.conv2d(a, kernel, padding=kernel.shape[-1] // 2)
        dynamic = depthwise_per_image(a, self.dwc_proj(a).reshape(-1, self.pdim, 3, 3))
        return torch.cat([static + dynamic, rest], dim=1)


class ConvAttn(nn.Module):
    """A large-kernel mix of the first channels, then a 1 x 1 convolution of all."""

    def __init__(self, dim: int, large_kernel: nn.Module) -> None:
        super().__init__()
        self.plk = large_kernel
        self.aggr = conv(dim, dim, 1)

    def forward(self, x: Tensor, *kernels: Tensor) -> Tensor:
        out: Tensor = self.aggr(self.plk(x, *kernels))
        return out


class Block(nn.Module):
    def __init__(
        self,
        dim: int,
        conv_blocks: int,
        window_size: int,
        num_heads: int,
        exp_ratio: float,
        large_kernels: list[nn.Module],
        *,
        proj_ratio: float = 2.0,
        use_ln: bool = True,
    ) -> None:
        super().__init__()
        self.ln_proj = LayerNorm(dim)
        self.proj = ConvFFN(dim, proj_ratio)
        self.ln_attn = LayerNorm(dim)
        self.attn = WindowAttention(dim, window_size, num_heads)
        self.lns = nn.ModuleList(LayerNorm(dim) if use_ln else nn.Identity() for _ in range(conv_blocks))
        self.pconvs = nn.ModuleList(ConvAttn(dim, large_kernel) for large_kernel in large_kernels)
        self.convffns = nn.ModuleList(ConvFFN(dim, exp_ratio) for _ in range(conv_blocks))
        self.ln_out = LayerNorm(dim)
        self.conv_out = conv(dim, dim, 3)

    def forward(self, u: Tensor, *kernels: Tensor) -> Tensor:
        v = self.proj(self.ln_proj(u))
        v = v + self.attn(self.ln_attn(v))
        for norm, ffn, mix in zip(self.lns, self.convffns, self.pconvs, strict=True):
            v = v + mix(ffn(norm(v)), *kernels)
        out: Tensor = self.conv_out(self.ln_out(v)) + u
        return out


class ESC(nn.Module):
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
        use_ln: bool = False,
    ) -> None:
        super().__init__()
        self.scale = upscaling_factor
        self.plk_filter = nn.Parameter(torch.empty(pdim, pdim, kernel_size, kernel_size))
        nn.init.orthogonal_(self.plk_filter)
        self.proj = conv(3, dim, 3)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                conv_blocks,
                window_size,
                num_heads,
                exp_ratio,
                [LargeKernel(pdim) for _ in range(conv_blocks)],
                use_ln=use_ln,
            )
            for _ in range(n_blocks)
        )
        self.last = conv(dim, dim, 3)
        self.to_img = conv(dim, 3 * upscaling_factor**2, 3)

    def features(self, x: Tensor) -> Tensor:
        kernel = symmetrized(self.plk_filter)
        shallow = self.proj(x)
        deep = shallow
        for block in self.blocks:
            deep = block(deep, kernel)
        features: Tensor = self.last(deep) + shallow
        return features

    def forward(self, x: Tensor) -> Tensor:
        deep = self.features(x)
        image = x.repeat_interleave(self.scale**2, dim=1)
        return F.pixel_shuffle(self.to_img(deep) + image, self.scale)
