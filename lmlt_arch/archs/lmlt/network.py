"""LMLT: Low-to-high Multi-Level Transformer (arXiv 2409.03516)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import hidden_width, positive_int, with_fields_of
from lmlt_arch.archs.common.layers import SRNetwork
from lmlt_arch.archs.common.padding import cells, pad_to_cells
from lmlt_arch.archs.lmlt.arguments import FixedScaleArguments, LMLTArguments, TrunkArguments
from lmlt_arch.archs.lmlt.blocks import LHSB, LMLTBlock
from lmlt_arch.archs.lmlt.fast import run_blocks


class LMLTEncoder(SRNetwork):
    """LMLT without its last layer: an image to as many features for each of its pixels.

    Args:
        arguments: those of the network.
        upscaling_factor: of the network; without effect on the features.
    """

    def __init__(self, arguments: TrunkArguments, *, upscaling_factor: int = 1) -> None:
        dim, levels, window = arguments.dim, arguments.levels, arguments.window
        # The coarsest level works at 1 / 2^(levels - 1) and still needs whole windows.
        coarsest = 2 ** (positive_int("levels", levels) - 1)
        super().__init__(upscaling_factor, pad_multiple=positive_int("window", window) * coarsest)
        if positive_int("dim", dim) % levels:
            raise ValueError(f"dim must be a multiple of {levels} (one share per level), got {dim}")
        if not arguments.low_to_high:
            self.register_buffer("low_to_high", torch.zeros(1, dtype=torch.uint8))
        self.to_feat = nn.Conv2d(3, dim, 3, padding=1)
        self.feats = nn.ModuleList(
            LMLTBlock(
                dim,
                hidden_width("ffn_scale", dim, arguments.ffn_scale),
                LHSB(
                    dim,
                    low_to_high=arguments.low_to_high,
                    attn_drop_rate=arguments.attn_drop_rate,
                    drop_rate=arguments.drop_rate,
                    attn_type=arguments.attn_type,
                    levels=levels,
                    window=window,
                    pooling=arguments.pooling,
                ),
            )
            for _ in range(positive_int("n_blocks", arguments.n_blocks))
        )

    def encode(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to features (B, dim, H, W), any H and W from 1."""
        height, width = x.shape[-2:]
        cell = self.pad_multiple
        rows, cols = cells(height, cell), cells(width, cell)
        x = self.to_feat(pad_to_cells(x, rows, cols, cell))
        features = run_blocks(self.feats, x, rows, cols, attn_type=self.attn_type)
        # Cropped here, so that a convolution afterward sees zeros beyond the true border.
        return (features + x)[:, :, :height, :width]


class FixedScaleLMLT(LMLTEncoder):
    """The encoder with a pixel-shuffle head.

    Args:
        arguments: those of the network.
    """

    def __init__(self, arguments: FixedScaleArguments) -> None:
        r = arguments.upscaling_factor
        super().__init__(arguments, upscaling_factor=r)
        self.to_img = nn.Sequential(nn.Conv2d(arguments.dim, 3 * r**2, 3, padding=1), nn.PixelShuffle(r))

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve RGB images.

        Args:
            x: (B, 3, H, W) in [0, 1], any H and W from 1.

        Returns:
            (B, 3, H r, W r), r = `upscaling_factor`.
        """
        self.check_input(x)
        return self.to_img(self.encode(x))


class LMLT(FixedScaleLMLT):
    """Low-to-high Multi-Level Transformer for image super-resolution (arXiv 2409.03516).

    State dicts are those of the official code. Input and output are RGB in [0, 1]; nothing is clamped.
    Images are mirrored at the bottom and right to multiples of 64; an image smaller than that padding is
    mirrored repeatedly (`mirror_indices`), so that every size from 1 x 1 runs.

    Args: those of `lmlt_arch.archs.lmlt.arguments.LMLTArguments`.

    Raises:
        ValueError: an argument is unusable; the message names it.
    """

    @with_fields_of(LMLTArguments)
    def __init__(self, arguments: LMLTArguments) -> None:
        super().__init__(arguments)
