"""ESC-FP: ESC with fewer parameters (arXiv 2503.06671, supplement)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int
from lmlt_arch.archs.common.layers import ChannelNorm, SRNetwork
from lmlt_arch.archs.common.scale_conversion import convert_scale_on_load
from lmlt_arch.archs.esc.blocks import (
    BlockSpec,
    SeparableLargeKernelConv,
    check_large_kernel,
    make_blocks,
)
from lmlt_arch.archs.esc.fast import run_blocks


class ESCFPEncoder(SRNetwork):
    """ESC-FP without its last layer: an image to as many features for each of its pixels.

    Args: as those of `ESCFP`.
    """

    def __init__(
        self,
        dim: int,
        pdim: int,
        kernel_size: int,
        n_blocks: int,
        conv_blocks: int,
        window_size: int,
        num_heads: int,
        upscaling_factor: int = 1,
        exp_ratio: float = 2,
        attn_type: str = "auto",
    ) -> None:
        super().__init__(upscaling_factor, pad_multiple=positive_int("window_size", window_size))
        check_large_kernel(pdim, dim, kernel_size, least=4)
        self.lk_channel = nn.Parameter(torch.randn(pdim, pdim, 1, 1))
        self.lk_spatial = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, 1, kernel_size, kernel_size)))
        self.proj = nn.Conv2d(3, dim, 3, padding=1)
        spec = BlockSpec(dim, pdim, conv_blocks, window_size, num_heads, exp_ratio, attn_type)
        self.blocks = make_blocks(
            n_blocks, spec, use_ln=True, proj_ratio=1.5, make_plk=SeparableLargeKernelConv
        )
        self.ln_last = ChannelNorm(dim)
        self.last = nn.Conv2d(dim, dim, 3, padding=1)

    def encode(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to features (B, dim, H, W), any H and W from 1."""
        shallow = self.proj(x)
        features = run_blocks(self.blocks, shallow, (self.lk_channel, self.lk_spatial))
        return self.last(self.ln_last(features)) + shallow


class ESCFP(ESCFPEncoder):
    """ESC with a factored large kernel and a bicubic image skip (arXiv 2503.06671, supplement).

    Conventions, input sizes and scale conversion as in `ESC`; the pairs always have a LayerNorm.

    Args:
        dim: channels.
        pdim: channels that pass through the large kernel.
        kernel_size: large kernel, odd.
        n_blocks: blocks.
        conv_blocks: pairs of ConvFFN and ConvAttn in a block.
        window_size: attention window.
        num_heads: attention heads; must divide `dim`.
        upscaling_factor: output size over input size.
        exp_ratio: hidden ratio of the ConvFFNs.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

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
        attn_type: str = "auto",
    ) -> None:
        super().__init__(
            dim,
            pdim,
            kernel_size,
            n_blocks,
            conv_blocks,
            window_size,
            num_heads,
            upscaling_factor,
            exp_ratio,
            attn_type,
        )
        self.to_img = nn.Conv2d(dim, 3 * upscaling_factor**2, 3, padding=1)
        self.register_load_state_dict_pre_hook(convert_scale_on_load)

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve RGB images.

        Args:
            x: (B, 3, H, W) in [0, 1], any H and W from 1.

        Returns:
            (B, 3, H r, W r), r = `upscaling_factor`.
        """
        self.check_input(x)
        r = self.upscaling_factor
        residual = self.to_img(self.encode(x))
        size = (x.shape[-2] * r, x.shape[-1] * r)
        skip = F.interpolate(x, size=size, mode="bicubic", align_corners=False)
        return F.pixel_shuffle(residual, r) + skip
