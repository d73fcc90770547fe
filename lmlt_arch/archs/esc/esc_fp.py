"""ESC-FP: ESC with fewer parameters (arXiv 2503.06671, supplement)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int, with_fields_of
from lmlt_arch.archs.common.layers import ChannelNorm, SRNetwork
from lmlt_arch.archs.common.scale_conversion import convert_scale_on_load
from lmlt_arch.archs.esc.arguments import ESCFPArguments, TrunkArguments
from lmlt_arch.archs.esc.blocks import SeparableLargeKernelConv, check_large_kernel, make_blocks
from lmlt_arch.archs.esc.fast import run_blocks


class ESCFPEncoder(SRNetwork):
    """ESC-FP without its last layer: an image to as many features for each of its pixels.

    Args:
        arguments: those of the network.
        upscaling_factor: of the network; without effect on the features.
    """

    def __init__(self, arguments: TrunkArguments, *, upscaling_factor: int = 1) -> None:
        dim, pdim, size = arguments.dim, arguments.pdim, arguments.kernel_size
        pad_multiple = positive_int("window_size", arguments.window_size)
        super().__init__(upscaling_factor, pad_multiple=pad_multiple)
        check_large_kernel(pdim, dim, size, least=4)
        self.lk_channel = nn.Parameter(torch.randn(pdim, pdim, 1, 1))
        self.lk_spatial = nn.Parameter(nn.init.orthogonal_(torch.empty(pdim, 1, size, size)))
        self.proj = nn.Conv2d(3, dim, 3, padding=1)
        self.blocks = make_blocks(arguments, use_ln=True, proj_ratio=1.5, make_plk=SeparableLargeKernelConv)
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

    Args: those of `lmlt_arch.archs.esc.arguments.ESCFPArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(ESCFPArguments)
    def __init__(self, arguments: ESCFPArguments) -> None:
        r = arguments.upscaling_factor
        super().__init__(arguments, upscaling_factor=r)
        self.to_img = nn.Conv2d(arguments.dim, 3 * r**2, 3, padding=1)
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
