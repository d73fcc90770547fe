"""ESC: Emulating Self-attention with Convolution (arXiv 2503.06671)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int
from lmlt_arch.archs.common.scale_conversion import convert_scale_on_load
from lmlt_arch.archs.esc.blocks import BlockSpec, SymmetricKernelNetwork, make_blocks
from lmlt_arch.archs.esc.fast import run_blocks


class ESCEncoder(SymmetricKernelNetwork):
    """ESC without its last layer: an image to as many features for each of its pixels.

    Args: as those of `ESC`.
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
        use_ln: bool = False,
    ) -> None:
        super().__init__(upscaling_factor, pad_multiple=positive_int("window_size", window_size))
        self._init_kernel(dim, pdim, kernel_size)
        self.proj = nn.Conv2d(3, dim, 3, padding=1)
        spec = BlockSpec(dim, pdim, conv_blocks, window_size, num_heads, exp_ratio, attn_type)
        self.blocks = make_blocks(n_blocks, spec, use_ln=use_ln)
        self.last = nn.Conv2d(dim, dim, 3, padding=1)

    def encode(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to features (B, dim, H, W), any H and W from 1."""
        shared = self.shared_kernels()
        shallow = self.proj(x)
        features = run_blocks(self.blocks, shallow, shared)
        return self.last(features) + shallow


class ESC(ESCEncoder):
    """ESC and its published sizes ESC-light and ESC-XL (arXiv 2503.06671, section 3).

    State dicts are those of the official code. Input and output are RGB in [0, 1]; nothing is clamped. Any
    size from 1 x 1 runs: the attention mirrors its map to whole windows, repeatedly where it is smaller.
    Every image of a batch has its own dynamic kernels, in training and in evaluation.

    `load_state_dict` accepts a checkpoint of another scale and converts its last layer.

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
        use_ln: LayerNorm in front of each ConvFFN and ConvAttn pair.

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
        use_ln: bool = False,
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
            use_ln,
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
        return F.pixel_shuffle(residual + x.repeat_interleave(r * r, dim=1), r)
