"""Layers that several networks share: normalization, per-image filters, the network base class."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int
from lmlt_arch.archs.common.attention import AttentionModule, resolve_attn_type
from lmlt_arch.archs.common.padding import mirror_pad
from lmlt_arch.renamed import warn_renamed


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel of (B, C, H, W), eps 1e-6.

    Statistics are accumulated in float32 for half-precision input. The result has channels-last strides.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MirrorConv2d(nn.Conv2d):
    """Convolution with reflect padding of half the kernel that accepts images of any size from 1 px."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups=groups)
        self._reach = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) without changing H and W."""
        r = self._reach
        return super().forward(mirror_pad(x, top=r, bottom=r, left=r, right=r))


def depthwise_per_image(x: Tensor, kernels: Tensor) -> Tensor:
    """Depth-wise convolution in which every image of the batch has its own kernels.

    Args:
        x: (B, C, H, W).
        kernels: (B, C, k, k), k odd.

    Returns:
        (B, C, H, W), zero padding at the border.
    """
    batch, channels, height, width = x.shape
    k = kernels.shape[-1]
    if torch.compiler.is_compiling():
        # `groups` would bake the batch size into the graph; a sum over taps keeps it free (and fuses).
        padded = F.pad(x, (k // 2,) * 4)
        taps = [
            padded[:, :, dy : dy + height, dx : dx + width] * kernels[:, :, dy, dx, None, None]
            for dy in range(k)
            for dx in range(k)
        ]
        return functools.reduce(torch.add, taps)
    out = F.conv2d(
        x.reshape(1, batch * channels, height, width),
        kernels.reshape(batch * channels, 1, k, k),
        padding=k // 2,
        groups=batch * channels,
    )
    return out.reshape(x.shape)


class _FreeScale:
    """Deprecated name of `any_scale`, for networks and their classes."""

    def __get__(self, _network: SRNetwork | None, cls: type[SRNetwork]) -> bool:
        warn_renamed("free_scale", "any_scale")
        return cls.any_scale


class SRNetwork(nn.Module):
    """Base class of all networks of this package.

    Attributes:
        upscaling_factor: output size over input size.
        pad_multiple: size in input pixels whose multiples need no internal padding.
        any_scale: whether `forward` also takes the size of its output; see `LTENetwork`.
    """

    any_scale = False
    free_scale = _FreeScale()
    upscaling_factor: int
    pad_multiple: int

    def __init__(self, upscaling_factor: int, pad_multiple: int) -> None:
        super().__init__()
        self.upscaling_factor = positive_int("upscaling_factor", upscaling_factor)
        self.pad_multiple = pad_multiple

    @property
    def attn_type(self) -> str:
        """Attention backend, read at every call: one of `lmlt_arch.archs.common.attention.BACKENDS`."""
        return next(m.attn_type for m in self.modules() if isinstance(m, AttentionModule))

    @attn_type.setter
    def attn_type(self, value: str) -> None:
        name = resolve_attn_type(value)
        for module in self.modules():
            if isinstance(module, AttentionModule):
                module.attn_type = name

    @staticmethod
    def check_input(x: Tensor) -> None:
        """Refuse what is not a batch of RGB images.

        Raises:
            ValueError: `x` is not (B, 3, H, W).
        """
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"expected RGB images (B, 3, H, W), got {tuple(x.shape)}")
