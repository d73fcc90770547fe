"""The blocks of LMLT (arXiv 2409.03516, section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import probability
from lmlt_arch.archs.common.attention import AttentionModule
from lmlt_arch.archs.common.layers import ChannelNorm
from lmlt_arch.archs.lmlt.arguments import LEVELS, WINDOW
from lmlt_arch.archs.lmlt.window_attention import attend_map, serves


class LevelAttention(AttentionModule):
    """Single-head attention in windows with a local positional term (arXiv 2409.03516, section 3.2).

    Args:
        dim: channels.
        attn_drop_rate: dropout of the attention weights.
        drop_rate: dropout after the projection.
        attn_type: attention backend.
        window: side w of the windows.
    """

    def __init__(
        self, dim: int, *, attn_drop_rate: float, drop_rate: float, attn_type: str, window: int = WINDOW
    ) -> None:
        super().__init__(attn_type)
        self.window = window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.get_v = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.attn_drop_rate = probability("attn_drop_rate", attn_drop_rate)
        self.proj_drop = nn.Dropout(probability("drop_rate", drop_rate))

    def forward(self, x: Tensor, rows: int, cols: int) -> Tensor:
        """Attend inside each window of (B, dim, rows w, cols w); same shape out."""
        dropout, w = self.attn_drop_rate if self.training else 0.0, self.window
        if w == WINDOW and serves(self, x, attn_type=self.attn_type, dropout=dropout):
            return self.proj_drop(attend_map(x, self.weights()))
        batch, dim = x.shape[:2]
        # (B, d, rows w, cols w) -> (B rows cols, w w, d)
        tokens = x.reshape(batch, dim, rows, w, cols, w).permute(0, 2, 4, 3, 5, 1)
        tokens = tokens.reshape(batch * rows * cols, w * w, dim)
        q, k, v = self.qkv(tokens).chunk(3, -1)
        out = self.attend(q[:, None], k[:, None], v[:, None], dropout=dropout)[:, 0]
        # The positional term: a 3 x 3 convolution that does not look over its window's border.
        plane = v.mT.reshape(-1, dim, w, w)
        out = out + self.get_v(plane).flatten(2).mT
        out = self.proj_drop(self.proj(out))
        out = out.reshape(batch, rows, cols, w, w, dim).permute(0, 5, 1, 3, 2, 4)
        return out.reshape(x.shape)

    def weights(self) -> tuple[Tensor, ...]:
        """The weights that `window_attention.attend_windows` takes, in its order."""
        qkv, local, proj = self.qkv, self.get_v, self.proj
        assert local.bias is not None
        return qkv.weight, qkv.bias, local.weight, local.bias, proj.weight, proj.bias


class LHSB(nn.Module):
    """Low-to-high self-attention block (arXiv 2409.03516, section 3.2, figure 3).

    An equal share of the channels goes to each level; level i sees them pooled by 2^i. Levels run from coarse
    to fine, and each adds its upscaled output to the next finer level's input.

    Args:
        dim: channels, a multiple of `levels`.
        low_to_high: whether finer levels receive the coarser ones' output.
        attn_drop_rate: dropout of the attention weights.
        drop_rate: dropout after each projection.
        attn_type: attention backend.
        levels: resolutions at which it attends.
        window: side of the attention windows.
        pooling: how levels shrink: "max", "average" or "stride" (the top left pixel alone).
    """

    def __init__(
        self,
        dim: int,
        *,
        low_to_high: bool,
        attn_drop_rate: float,
        drop_rate: float,
        attn_type: str,
        levels: int = LEVELS,
        window: int = WINDOW,
        pooling: str = "max",
    ) -> None:
        super().__init__()
        self.low_to_high, self.window, self.pooling = low_to_high, window, pooling
        self.mfr = nn.ModuleList(
            LevelAttention(
                dim // levels,
                attn_drop_rate=attn_drop_rate,
                drop_rate=drop_rate,
                attn_type=attn_type,
                window=window,
            )
            for _ in range(levels)
        )
        self.aggr = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, rows: int, cols: int) -> Tensor:
        """Map (B, dim, rows c, cols c) to the same shape, c = `cell`."""
        levels: list[Tensor] = []
        coarser: Tensor | None = None
        window, cell = self.window, self.cell
        for i, chunk in reversed(list(enumerate(x.chunk(len(self.mfr), 1)))):
            factor = 2**i
            height, width = rows * cell // factor, cols * cell // factor
            z = self._shrink(chunk, factor) if i else chunk
            if coarser is not None and self.low_to_high:
                z = z + F.interpolate(coarser, size=(height, width), mode="nearest")
            coarser = self.mfr[i](z, height // window, width // window)
            levels.append(
                F.interpolate(coarser, size=(rows * cell, cols * cell), mode="nearest") if i else coarser
            )
        # Coarsest first: the published `aggr` weights expect the levels in this order.
        return F.gelu(self.aggr(torch.cat(levels, 1))) * x

    @property
    def cell(self) -> int:
        """Side of a window of the coarsest level, in pixels of the finest."""
        return self.window * 2 ** (len(self.mfr) - 1)

    def _shrink(self, x: Tensor, factor: int) -> Tensor:
        if self.pooling == "stride":
            return x[..., ::factor, ::factor]
        return F.max_pool2d(x, factor) if self.pooling == "max" else F.avg_pool2d(x, factor)


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
        """Map (B, dim, rows c, cols c) to the same shape, c = `LHSB.cell`."""
        x = x + self.lhsb(self.norm1(x), rows, cols)
        return x + self.ccm(self.norm2(x))
