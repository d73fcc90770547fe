"""LMLT: Low-to-high Multi-Level Transformer (arXiv 2409.03516)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common import fused, kernel_dispatch
from lmlt_arch.archs.common.arguments import hidden_width, positive_int, probability
from lmlt_arch.archs.common.attention import AttentionModule
from lmlt_arch.archs.common.layers import ChannelNorm, SRNetwork
from lmlt_arch.archs.common.padding import cells, pad_to_cells
from lmlt_arch.archs.lmlt import cpu
from lmlt_arch.archs.lmlt.window_attention import MAX_WIDTH, attend_map, in_half, serves

LEVELS = 4
WINDOW = 8
# The coarsest level works at 1 / 2^(LEVELS - 1) and still needs whole windows.
STRIDE = WINDOW * 2 ** (LEVELS - 1)


class LevelAttention(AttentionModule):
    """Single-head attention in 8 x 8 windows with a local positional term (arXiv 2409.03516, section 3.2).

    Args:
        dim: channels.
        attn_drop_rate: dropout of the attention weights.
        drop_rate: dropout after the projection.
        attn_type: attention backend.
    """

    def __init__(self, dim: int, *, attn_drop_rate: float, drop_rate: float, attn_type: str) -> None:
        super().__init__(attn_type)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.get_v = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.attn_drop_rate = probability("attn_drop_rate", attn_drop_rate)
        self.proj_drop = nn.Dropout(probability("drop_rate", drop_rate))

    def forward(self, x: Tensor, rows: int, cols: int) -> Tensor:
        """Attend inside each window of (B, dim, 8 rows, 8 cols); same shape out."""
        dropout = self.attn_drop_rate if self.training else 0.0
        # In float32 they have not been measured.
        wanted = self.attn_type == "Triton" or (self.attn_type == "auto" and in_half(x))
        # Without gradients, kernels do whole blocks; what they are compared with then must not be kernels.
        if wanted and torch.is_grad_enabled() and not dropout and serves(self, x):
            return self._by_kernel(x)
        batch, dim = x.shape[:2]
        # (B, d, rows 8, cols 8) -> (B rows cols, 64, d)
        tokens = x.reshape(batch, dim, rows, WINDOW, cols, WINDOW).permute(0, 2, 4, 3, 5, 1)
        tokens = tokens.reshape(batch * rows * cols, WINDOW * WINDOW, dim)
        q, k, v = self.qkv(tokens).chunk(3, -1)
        out = self.attend(q[:, None], k[:, None], v[:, None], dropout=dropout)[:, 0]
        # The positional term: a 3 x 3 convolution that does not look over its window's border.
        plane = v.mT.reshape(-1, dim, WINDOW, WINDOW)
        out = out + self.get_v(plane).flatten(2).mT
        out = self.proj_drop(self.proj(out))
        out = out.reshape(batch, rows, cols, WINDOW, WINDOW, dim).permute(0, 5, 1, 3, 2, 4)
        return out.reshape(x.shape)

    def _by_kernel(self, x: Tensor) -> Tensor:
        """`forward` by kernels that find the windows in the map itself; the result is channels last."""
        return self.proj_drop(attend_map(x, self.weights()))

    def weights(self) -> tuple[Tensor, ...]:
        """What `attend_windows` takes, in its order."""
        qkv, local, proj = self.qkv, self.get_v, self.proj
        assert local.bias is not None
        return qkv.weight, qkv.bias, local.weight, local.bias, proj.weight, proj.bias


class LHSB(nn.Module):
    """Low-to-high self-attention block (arXiv 2409.03516, section 3.2, figure 3).

    A quarter of the channels goes to each level; level i sees them max-pooled by 2^i. Levels run from coarse
    to fine, and each adds its upscaled output to the next finer level's input.

    Args:
        dim: channels, a multiple of 4.
        low_to_high: whether finer levels receive the coarser ones' output.
        attn_drop_rate: dropout of the attention weights.
        drop_rate: dropout after each projection.
        attn_type: attention backend.
    """

    def __init__(
        self, dim: int, *, low_to_high: bool, attn_drop_rate: float, drop_rate: float, attn_type: str
    ) -> None:
        super().__init__()
        self.low_to_high = low_to_high
        self.mfr = nn.ModuleList(
            LevelAttention(
                dim // LEVELS, attn_drop_rate=attn_drop_rate, drop_rate=drop_rate, attn_type=attn_type
            )
            for _ in range(LEVELS)
        )
        self.aggr = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, rows: int, cols: int) -> Tensor:
        """Map (B, dim, 64 rows, 64 cols) to the same shape."""
        levels: list[Tensor] = []
        coarser: Tensor | None = None
        for i, chunk in reversed(list(enumerate(x.chunk(LEVELS, 1)))):
            factor = 2**i
            height, width = rows * STRIDE // factor, cols * STRIDE // factor
            z = F.max_pool2d(chunk, factor) if i else chunk
            if coarser is not None and self.low_to_high:
                z = z + F.interpolate(coarser, size=(height, width), mode="nearest")
            coarser = self.mfr[i](z, height // WINDOW, width // WINDOW)
            levels.append(
                F.interpolate(coarser, size=(rows * STRIDE, cols * STRIDE), mode="nearest") if i else coarser
            )
        # Coarsest first: the published `aggr` weights expect the levels in this order.
        return F.gelu(self.aggr(torch.cat(levels, 1))) * x


class CCM(nn.Module):
    """Convolutional channel mixer: 3x3 convolution, GELU, 1x1 convolution (arXiv 2409.03516, section 3.1)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.ccm = nn.Sequential(nn.Conv2d(dim, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        return self.ccm(x)


class LMLTBlock(nn.Module):
    """LHSB and CCM, each pre-normed and residual."""

    def __init__(self, dim: int, hidden: int, lhsb: LHSB) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.norm2 = ChannelNorm(dim)
        self.lhsb = lhsb
        self.ccm = CCM(dim, hidden)

    def forward(self, x: Tensor, rows: int, cols: int) -> Tensor:
        """Map (B, dim, 64 rows, 64 cols) to the same shape."""
        x = x + self.lhsb(self.norm1(x), rows, cols)
        return x + self.ccm(self.norm2(x))


# What `cpu` and `cuda` compute the function of; subclasses and replaced modules run as written.
_KNOWN = frozenset(
    {LMLTBlock, LHSB, LevelAttention, CCM, ChannelNorm}
    | {nn.Conv2d, nn.Dropout, nn.GELU, nn.Linear, nn.ModuleList, nn.Sequential}
)


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
        features = self._run_blocks(x, rows, cols)
        # Cropped here, so that a convolution afterwards sees zeros beyond the true border.
        return (features + x)[:, :, :height, :width]

    def _run_blocks(self, x: Tensor, rows: int, cols: int) -> Tensor:
        """All blocks on (B, dim, 64 rows, 64 cols), fast where that is possible."""
        blocks = cast(Sequence[LMLTBlock], self.feats)
        # Sizes last: a program that is being exported must not compare them.
        wanted = self.attn_type in ("auto", "Triton") and kernel_dispatch.usable(self.feats, x, _KNOWN)
        if wanted and x.shape[1] // LEVELS <= MAX_WIDTH and kernel_dispatch.countable(x, 2 * x.shape[1]):
            from lmlt_arch.archs.lmlt import cuda

            block, fast = blocks[0], partial(cuda.run_blocks, blocks[:1])
            slow, connected = partial(block, rows=1, cols=1), (block.lhsb.low_to_high,)
            if kernel_dispatch.agree(block, x, fast, slow, side=STRIDE, constants=connected):
                return cuda.run_blocks(blocks, x)
        if self.attn_type == "auto" and fused.usable(self.feats, x, _KNOWN):
            return cpu.run_blocks(blocks, x, cell=STRIDE)
        for block in blocks:
            x = block(x, rows, cols)
        return x


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
