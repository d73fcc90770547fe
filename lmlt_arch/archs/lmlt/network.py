"""LMLT: Low-to-high Multi-Level Transformer (arXiv 2409.03516)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import hidden_width, positive_int
from lmlt_arch.archs.common.layers import SRNetwork
from lmlt_arch.archs.common.padding import cells, pad_to_cells
from lmlt_arch.archs.lmlt.blocks import LEVELS, LHSB, STRIDE, LMLTBlock
from lmlt_arch.archs.lmlt.fast import run_blocks


class LMLTEncoder(SRNetwork):
    """LMLT without its last layer: an image to as many features for each of its pixels.

    Args: as those of `LMLT`.
    """

    def __init__(
        self,
        dim: int,
        n_blocks: int = 8,
        ffn_scale: float = 2.0,
        upscaling_factor: int = 1,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        *,
        low_to_high: bool = True,
        attn_type: str = "auto",
    ) -> None:
        super().__init__(upscaling_factor, pad_multiple=STRIDE)
        if positive_int("dim", dim) % LEVELS:
            raise ValueError(f"dim must be a multiple of {LEVELS} (one share per level), got {dim}")
        if not low_to_high:
            self.register_buffer("low_to_high", torch.zeros(1, dtype=torch.uint8))
        self.to_feat = nn.Conv2d(3, dim, 3, padding=1)
        self.feats = nn.ModuleList(
            LMLTBlock(
                dim,
                hidden_width("ffn_scale", dim, ffn_scale),
                LHSB(
                    dim,
                    low_to_high=low_to_high,
                    attn_drop_rate=attn_drop_rate,
                    drop_rate=drop_rate,
                    attn_type=attn_type,
                ),
            )
            for _ in range(positive_int("n_blocks", n_blocks))
        )

    def encode(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to features (B, dim, H, W), any H and W from 1."""
        height, width = x.shape[-2:]
        rows, cols = cells(height, STRIDE), cells(width, STRIDE)
        x = self.to_feat(pad_to_cells(x, rows, cols, STRIDE))
        features = run_blocks(self.feats, x, rows, cols, attn_type=self.attn_type)
        # Cropped here, so that a convolution afterwards sees zeros beyond the true border.
        return (features + x)[:, :, :height, :width]


class LMLT(LMLTEncoder):
    """Low-to-high Multi-Level Transformer for image super-resolution (arXiv 2409.03516).

    State dicts are those of the official code. Input and output are RGB in [0, 1]; nothing is clamped.
    Images are mirrored at the bottom and right to multiples of 64; an image smaller than that padding is
    mirrored repeatedly (`mirror_indices`), so that every size from 1 x 1 runs.

    Args:
        dim: channels, a multiple of 4. Published: 36 (tiny), 60 (base), 84 (large).
        n_blocks: number of blocks.
        ffn_scale: hidden width of the channel mixer over `dim`.
        upscaling_factor: output size over input size.
        drop_rate: dropout after each attention projection.
        attn_drop_rate: dropout of the attention weights.
        drop_path_rate: accepted and without effect, as in the official code.
        low_to_high: False cuts the connection from coarser to finer levels, for ablation. Such a network
            marks its state dict with a buffer of the same name, so that neither kind loads the other's
            weights by mistake.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.

    Raises:
        ValueError: `dim` is not a multiple of 4, or `upscaling_factor` or `attn_type` is unusable.
    """

    def __init__(
        self,
        dim: int,
        n_blocks: int = 8,
        ffn_scale: float = 2.0,
        upscaling_factor: int = 4,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        *,
        low_to_high: bool = True,
        attn_type: str = "auto",
    ) -> None:
        super().__init__(
            dim,
            n_blocks,
            ffn_scale,
            upscaling_factor,
            drop_rate,
            attn_drop_rate,
            drop_path_rate,
            low_to_high=low_to_high,
            attn_type=attn_type,
        )
        self.to_img = nn.Sequential(
            nn.Conv2d(dim, 3 * upscaling_factor**2, 3, padding=1), nn.PixelShuffle(upscaling_factor)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve RGB images.

        Args:
            x: (B, 3, H, W) in [0, 1], any H and W from 1.

        Returns:
            (B, 3, H r, W r), r = `upscaling_factor`.
        """
        self.check_input(x)
        return self.to_img(self.encode(x))
