"""LMLT's inference on a CPU: what `lmlt_arch.archs.lmlt.blocks` defines, in less time and memory.

Algebra that changes results by rounding only:

* With q = W_q z + b_q and k = W_k z + b_k, the scores q k^T are z (W_q^T W_k) z^T + (W_k^T b_q) z^T and terms
  that are the same for all keys, which softmax does not see. So the input itself serves as key.
* A 1x1 convolution commutes with nearest upsampling: `aggr` becomes sums that begin at low resolution.

Attention looks no farther than its cell of 64 x 64 pixels and the mixer one row: both run piece by piece and
in place, and what they need meanwhile stays in the cache.

The products of weights are tiny and computed again on each call, so they are never outdated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from lmlt_arch.archs.common.fused import add_conv, conv, layer_norm, linear, pieces, planes

if TYPE_CHECKING:
    from lmlt_arch.archs.common.layers import ChannelNorm
    from lmlt_arch.archs.lmlt.blocks import CCM, LHSB, LevelAttention, LMLTBlock

# Windows that attend together: their scores take 16 KiB each, twice, and should stay in the cache.
_WINDOWS = 32


def run_blocks(blocks: Iterable[LMLTBlock], x: Tensor, *, cell: int) -> Tensor:
    """All blocks, one after the other.

    Args:
        blocks: in evaluation mode.
        x: (B, dim, cell rows, cell cols); is left as it is.
        cell: side of the windows of the coarsest level, in pixels of `x`.

    Returns:
        Like `x`, channels last.
    """
    x = x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    for block in blocks:
        levels = [_Level.of(attention) for attention in cast("Iterable[LevelAttention]", block.lhsb.mfr)]
        for piece in pieces(x, multiple=cell):
            _attend(piece.of(x), block.norm1, block.lhsb, levels, cell)
        _mix(x, block.norm2, block.ccm)
    return planes(x)


class _Level(NamedTuple):
    """The attention of a level, and what gives its scores: q folded with k's weights."""

    attention: LevelAttention
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, attention: LevelAttention) -> _Level:
        w_q, w_k, _ = attention.qkv.weight.chunk(3)
        b_q = attention.qkv.bias[: len(w_q)]
        scale = len(w_q) ** -0.5
        return cls(attention, w_k.mT @ w_q * scale, b_q @ w_k * scale)


def _mix(x: Tensor, norm: ChannelNorm, ccm: CCM) -> None:
    """`x += ccm(norm(x))` for (B, H, W, D)."""
    spread, merge = cast(nn.Conv2d, ccm.ccm[0]), cast(nn.Conv2d, ccm.ccm[2])
    todo = list(pieces(x))
    normed = layer_norm(norm, todo[0].around(x))
    for piece, following in zip(todo, [*todo[1:], None], strict=True):
        hidden = piece.conv3x3(normed, spread.weight, spread.bias, gelu=True)
        if following is not None:
            # Before the rows change that it shares with this one.
            normed = layer_norm(norm, following.around(x))
        add_conv(planes(piece.of(x)), planes(hidden), merge.weight, merge.bias)


def _attend(x: Tensor, norm: ChannelNorm, lhsb: LHSB, levels: Sequence[_Level], cell: int) -> None:
    """`x += lhsb(norm(x))` for (B, cell rows, cell cols, D)."""
    gate = layer_norm(norm, x)
    count = len(levels)
    dim, window = gate.shape[-1] // count, cell >> (count - 1)
    inputs, rest = [gate[..., :dim].clone()], gate
    for _ in range(1, count):
        rest = _pool(rest[..., dim:])
        inputs.append(rest[..., :dim])
    coarser = total = None
    for number in reversed(range(count)):
        z = inputs.pop()
        if coarser is not None and lhsb.low_to_high:
            _add_upscaled(z, coarser)
        coarser = _windowed(levels[number], z, window)
        # Coarsest first: the order in which `aggr` expects the levels.
        weight = lhsb.aggr.weight[:, (count - 1 - number) * dim : (count - number) * dim, 0, 0]
        share = linear(coarser, weight, None if number else lhsb.aggr.bias)
        if total is not None:
            _add_upscaled(share, total)
        total = share
    x.addcmul_(torch.ops.aten.gelu_(total), gate)


def _pool(x: Tensor) -> Tensor:
    """Largest of each 2 x 2 pixels of (B, H, W, C)."""
    x = torch.maximum(x[:, ::2], x[:, 1::2])
    return torch.maximum(x[:, :, ::2], x[:, :, 1::2])


def _add_upscaled(total: Tensor, small: Tensor) -> None:
    """Add (B, H, W, C) to each of the 2 x 2 pixels of (B, 2 H, 2 W, C) that it covers."""
    for y in (0, 1):
        for x in (0, 1):
            total[:, y::2, x::2] += small


def _windowed(level: _Level, z: Tensor, window: int) -> Tensor:
    """Attend inside the windows of (B, H, W, d)."""
    batch, height, width, dim = z.shape
    rows, cols = height // window, width // window
    tokens = z.unflatten(2, (cols, window)).unflatten(1, (rows, window)).transpose(2, 3)
    out = _attention(level, tokens.reshape(-1, window * window, dim), window)
    return out.view(batch, rows, cols, window, window, dim).transpose(2, 3).reshape(z.shape)


def _attention(level: _Level, tokens: Tensor, window: int) -> Tensor:
    """Attend inside each of (N, n, d)."""
    count, n, dim = tokens.shape
    attention = level.attention
    q = linear(tokens, level.weight, level.bias)
    v = linear(tokens, attention.qkv.weight[2 * dim :], attention.qkv.bias[2 * dim :])
    plane = planes(v.view(-1, window, window, dim))
    local = conv(plane, attention.get_v.weight, attention.get_v.bias, padding=(1, 1), groups=dim)
    out = local.permute(0, 2, 3, 1).reshape(tokens.shape)
    # With heads this narrow, products of (d, n) with (n, n) take a third of the time of (n, n) with (n, d).
    together = min(_WINDOWS, count)
    scores, shares = (tokens.new_empty(together, n, n) for _ in range(2))
    attended = tokens.new_empty(together, dim, n)
    for first in range(0, count, together):
        some = slice(first, min(first + together, count))
        size = some.stop - first
        torch.bmm(q[some], tokens[some].mT, out=scores[:size])
        torch.softmax(scores[:size], -1, out=shares[:size])
        torch.bmm(v[some].mT, shares[:size].mT, out=attended[:size])
        out[some] += attended[:size].mT
    return linear(out, attention.proj.weight, attention.proj.bias)
