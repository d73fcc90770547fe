"""Encoders with the LTE decoder: super-resolution at any scale (arXiv 2503.06671 and 2111.08918)."""

from __future__ import annotations

from collections.abc import Sequence

from lmlt_arch.archs.esc.esc import ESCEncoder
from lmlt_arch.archs.esc.esc_fp import ESCFPEncoder
from lmlt_arch.archs.lmlt.network import LMLTEncoder
from lmlt_arch.archs.lte.decoder import ANY_SCALE, LTENetwork


class ESCLTE(LTENetwork):
    """ESC at any scale (arXiv 2503.06671, arbitrary-scale experiments). State dicts are the official ones.

    Args:
        dim: channels.
        pdim: channels that pass through the large kernel.
        kernel_size: large kernel, odd.
        n_blocks: blocks.
        conv_blocks: pairs of ConvFFN and ConvAttn in a block.
        window_size: attention window.
        num_heads: attention heads; must divide `dim`.
        exp_ratio: hidden ratio of the ConvFFNs.
        hidden_dim: amplitudes of a feature; half as many frequencies.
        hidden_list: widths of the decoder's layers.
        upscaling_factor: output size over input size where no size is given.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.
        use_ln: LayerNorm in front of each ConvFFN and ConvAttn pair.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    def __init__(
        self,
        dim: int = 64,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 5,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 4,
        exp_ratio: float = 1.25,
        hidden_dim: int = 256,
        hidden_list: Sequence[int] = (256, 256, 256),
        upscaling_factor: int = ANY_SCALE,
        attn_type: str = "auto",
        use_ln: bool = False,
    ) -> None:
        encoder = ESCEncoder(
            dim,
            pdim,
            kernel_size,
            n_blocks,
            conv_blocks,
            window_size,
            num_heads,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
            use_ln=use_ln,
        )
        super().__init__(encoder, dim, hidden_dim, hidden_list, upscaling_factor)


class ESCFPLTE(LTENetwork):
    """ESC-FP at any scale: its encoder with the LTE decoder.

    Args: as those of `ESCLTE`, without `use_ln`.
    """

    def __init__(
        self,
        dim: int = 48,
        pdim: int = 16,
        kernel_size: int = 13,
        n_blocks: int = 5,
        conv_blocks: int = 5,
        window_size: int = 32,
        num_heads: int = 3,
        exp_ratio: float = 1.25,
        hidden_dim: int = 256,
        hidden_list: Sequence[int] = (256, 256, 256),
        upscaling_factor: int = ANY_SCALE,
        attn_type: str = "auto",
    ) -> None:
        encoder = ESCFPEncoder(
            dim,
            pdim,
            kernel_size,
            n_blocks,
            conv_blocks,
            window_size,
            num_heads,
            exp_ratio=exp_ratio,
            attn_type=attn_type,
        )
        super().__init__(encoder, dim, hidden_dim, hidden_list, upscaling_factor)


class LMLTLTE(LTENetwork):
    """LMLT at any scale: its encoder with the LTE decoder.

    Args:
        dim: channels, a multiple of 4.
        n_blocks: blocks.
        ffn_scale: hidden width of the channel mixer over `dim`.
        hidden_dim: amplitudes of a feature; half as many frequencies.
        hidden_list: widths of the decoder's layers.
        upscaling_factor: output size over input size where no size is given.
        low_to_high: False cuts the connection from coarser to finer levels.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    def __init__(
        self,
        dim: int,
        n_blocks: int = 8,
        ffn_scale: float = 2.0,
        hidden_dim: int = 256,
        hidden_list: Sequence[int] = (256, 256, 256),
        upscaling_factor: int = ANY_SCALE,
        *,
        low_to_high: bool = True,
        attn_type: str = "auto",
    ) -> None:
        encoder = LMLTEncoder(dim, n_blocks, ffn_scale, low_to_high=low_to_high, attn_type=attn_type)
        super().__init__(encoder, dim, hidden_dim, hidden_list, upscaling_factor)
