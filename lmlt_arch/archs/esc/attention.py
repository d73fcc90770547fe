"""Window attention of the ESC family."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from lmlt_arch.archs.common.arguments import positive_int
from lmlt_arch.archs.common.attention import MAX_HEAD_WIDTH, AttentionModule, BiasFactors, factor_bias
from lmlt_arch.archs.common.padding import cells, pad_to_cells


class WindowAttention(AttentionModule):
    """Multi-head attention in square windows with a relative position bias (arXiv 2503.06671, section 3).

    The map is mirror-padded to whole windows; mirrored pixels take part like any others.

    Args:
        dim: channels.
        window_size: side of a window in pixels.
        num_heads: heads; must divide `dim`.
        attn_type: attention backend, see `lmlt_arch.archs.common.attention`.

    Attributes:
        flash_tolerance: largest error in the attention scores that the `Flash` backend may make by
            factoring the bias to a low rank. A bias that cannot be factored so well runs exactly.
    """

    flash_tolerance: float = 1e-2

    def __init__(self, dim: int, window_size: int, num_heads: int, attn_type: str = "auto") -> None:
        super().__init__(attn_type)
        self.window_size = positive_int("window_size", window_size)
        self.num_heads = positive_int("num_heads", num_heads)
        if positive_int("dim", dim) % self.num_heads:
            raise ValueError(f"dim {dim} is not a multiple of num_heads {num_heads}")
        self._add_bias()
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.to_out = nn.Conv2d(dim, dim, 1)
        self._factored: tuple[Tensor, float, BiasFactors] | None = None

    def _add_bias(self) -> None:
        """Add the parameters of `position_bias`."""
        table = torch.randn(self.num_heads, (2 * self.window_size - 1) ** 2) * 0.001
        self.relative_position_bias = nn.Parameter(table)

    def position_bias(self) -> Tensor:
        """The bias of every query and key, (heads, w^2, w^2).

        Entry (i, j) is the table's value at the offset key j minus query i. Sliding a w x w window over
        the table yields exactly these values, query rows and columns reversed: no index table is needed.
        """
        w, side = self.window_size, 2 * self.window_size - 1
        table = self.relative_position_bias.view(self.num_heads, side, side)
        slices = table.unfold(1, w, 1).unfold(2, w, 1)
        return slices.flip(1, 2).reshape(self.num_heads, w * w, w * w)

    def flash_factors(self) -> BiasFactors:
        """The factored bias of `Flash`, with its rank and error; cached until the table changes."""
        table = self.relative_position_bias.detach()
        if self._factored is not None:
            seen, tolerance, factors = self._factored
            # By content: writes through `.data`, as in BasicSR's EMA, leave no other trace.
            same_place = seen.device == table.device and seen.dtype == table.dtype
            if same_place and tolerance == self.flash_tolerance and torch.equal(seen, table):
                return factors
        width = self.to_out.in_channels // self.num_heads
        factors = factor_bias(
            self.position_bias(), tolerance=self.flash_tolerance, max_rank=max(MAX_HEAD_WIDTH - width, 0)
        )
        self._factored = (table.clone(), self.flash_tolerance, factors)
        return factors

    def _factors_if_usable(self) -> BiasFactors | None:
        """None where the exact bias must run: it wants a gradient, is traced, or needs too high a rank."""
        wants_grad = torch.is_grad_enabled() and self.relative_position_bias.requires_grad
        if self.attn_type != "Flash" or wants_grad or torch.compiler.is_compiling():
            return None
        factors = self.flash_factors()
        if factors.max_error <= self.flash_tolerance:
            return factors
        warnings.warn(
            f"attn_type 'Flash': at rank {factors.rank} the position bias is still off by "
            f"{factors.max_error:.2g}, more than flash_tolerance {self.flash_tolerance:.2g}; "
            "SDPA runs instead, exactly",
            stacklevel=2,
        )
        return None

    def _bias(self) -> tuple[Tensor | None, BiasFactors | None]:
        """The position bias as the backend takes it: whole or factored."""
        factors = self._factors_if_usable()
        return (self.position_bias() if factors is None else None), factors

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        w, heads = self.window_size, self.num_heads
        height, width = x.shape[-2:]
        rows, cols = cells(height, w), cells(width, w)
        padded = pad_to_cells(x, rows, cols, w)
        batch, dim = padded.shape[:2]
        # (B, 3 h c, rows w, cols w) -> 3 x (B rows cols, h, w w, c)
        qkv = self.to_qkv(padded).reshape(batch, 3, heads, dim // heads, rows, w, cols, w)
        qkv = qkv.permute(1, 0, 4, 6, 2, 5, 7, 3)
        q, k, v = qkv.reshape(3, batch * rows * cols, heads, w * w, dim // heads)
        bias, factors = self._bias()
        out = self.attend(q, k, v, bias, factors=factors)
        out = out.reshape(batch, rows, cols, heads, w, w, dim // heads).permute(0, 3, 6, 1, 4, 2, 5)
        out = out.reshape(batch, dim, rows * w, cols * w)[:, :, :height, :width]
        return self.to_out(out)
