"""Inference of ESC's blocks on a CPU: what `lmlt_arch.archs.esc.blocks` defines, in less time and memory.

Feed-forward layers and attention run piece by piece, their results are added in place, and the
dynamic 3x3 kernel of an image is part of the large kernel's center: one convolution where two were
(arXiv 2503.06671, section 3.2; rounding apart the same function). Nothing is kept from call to call, so
nothing can go stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlt_arch.archs.common.fused import add_conv, conv, layer_norm, linear, pieces, planes
from lmlt_arch.archs.common.padding import cells, mirror_indices

if TYPE_CHECKING:
    from lmlt_arch.archs.esc.attention import WindowAttention
    from lmlt_arch.archs.esc.blocks import ConvAttn, ConvFFN, ESCBlock, SharedKernels


def run_blocks(blocks: Iterable[ESCBlock], x: Tensor, shared: SharedKernels) -> Tensor:
    """All blocks, one after the other.

    Args:
        blocks: in evaluation mode.
        x: (B, dim, H, W); is left as it is.
        shared: the large kernel, dense or as a pair of channel mixing and depth-wise kernel.

    Returns:
        Like `x`, channels last.
    """
    x = x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    for block in blocks:
        _run_block(block, x, shared)
    return planes(x)


def _run_block(block: ESCBlock, x: Tensor, shared: SharedKernels) -> None:
    """One block on (B, H, W, dim), in place."""
    running = _feed_forward(block.proj, block.ln_proj, x)
    bias = block.attn.position_bias()[None]
    for image in running.split(1):
        _attend(block.attn, block.ln_attn, image, bias)
    # As large as an image's features; not needed any more.
    del bias
    for norm, ffn, pconv in block.pairs():
        y = _feed_forward(ffn, norm, running)
        _large_kernel(pconv, y, shared)
        add_conv(planes(running), planes(y), pconv.aggr.weight, pconv.aggr.bias)
    last = block.conv_out
    for piece in pieces(x):
        normed = layer_norm(block.ln_out, piece.around(running))
        piece.of(x).add_(piece.conv3x3(normed, last.weight, last.bias))


def _feed_forward(ffn: ConvFFN, norm: nn.Module, x: Tensor) -> Tensor:
    """`ffn(norm(x))` for (B, H, W, dim)."""
    out = torch.empty_like(x)
    for piece in pieces(x):
        normed = planes(layer_norm(norm, piece.around(x)))
        hidden = conv(normed, ffn.proj.weight, ffn.proj.bias, gelu=True).permute(0, 2, 3, 1)
        mixed = piece.conv3x3(hidden, ffn.dwc.weight, ffn.dwc.bias, groups=hidden.shape[-1], gelu=True)
        mixed += piece.core(hidden)
        piece.of(out).copy_(conv(planes(mixed), ffn.aggr.weight, ffn.aggr.bias).permute(0, 2, 3, 1))
    return out


def _attend(attention: WindowAttention, norm: nn.Module, image: Tensor, bias: Tensor) -> None:
    """`image += attention(norm(image))` for one image (1, H, W, dim); `bias` is (1, heads, w w, w w)."""
    width, dim = image.shape[2:]
    w, heads = attention.window_size, attention.num_heads
    cols = cells(width, w)
    qkv, to_out = attention.to_qkv, attention.to_out
    for top, strip in _window_rows(image, w):
        parts = linear(layer_norm(norm, strip), qkv.weight[:, :, 0, 0], qkv.bias)
        # (1, w, cols w, 3 h c) -> 3 x (cols, h, w w, c)
        parts = parts.view(w, cols, w, 3, heads, dim // heads).permute(3, 1, 4, 0, 2, 5)
        q, k, v = parts.reshape(3, cols, heads, w * w, dim // heads)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = out.view(cols, heads, w, w, dim // heads).permute(2, 0, 3, 1, 4).reshape(1, w, cols * w, dim)
        rows = image[:, top : top + w]
        out = out[:, : rows.shape[1], :width].contiguous()
        add_conv(planes(rows), planes(out), to_out.weight, to_out.bias)


def _window_rows(image: Tensor, w: int) -> Iterator[tuple[int, Tensor]]:
    """Each row of windows of (1, H, W, C), mirrored where the image ends: its top, and (1, w, cols w, C).

    The lowest comes first: mirrored, it may show rows of those above, which change afterward.
    """
    height, width = image.shape[1:3]
    down, right = -height % w, -width % w
    for top in reversed(range(0, height, w)):
        rows = image[:, top : top + w]
        if rows.shape[1] < w:
            rows = image.index_select(1, mirror_indices(height, 0, down, image.device)[top:])
        if right:
            rows = rows.index_select(2, mirror_indices(width, 0, right, image.device))
        yield top, rows


def _large_kernel(pconv: ConvAttn, y: Tensor, shared: SharedKernels) -> None:
    """Pass the first channels of (B, H, W, dim) through their large kernel, in place."""
    head = planes(y)[:, : pconv.pdim].contiguous(memory_format=torch.channels_last)
    dynamic = pconv.plk.predict(head)
    *mixing, kernel = shared
    dense = kernel.shape[1] > 1
    if mixing:
        head = conv(head, mixing[0], None)
    reach = max(kernel.shape[-1] // 2, 1)
    # A 1x1 kernel has no room for the dynamic one.
    kernel = F.pad(kernel, (reach - kernel.shape[-1] // 2,) * 4)
    center = slice(reach - 1, reach + 2)
    for image in range(y.shape[0]):
        own = kernel.clone()
        (own.diagonal().permute(2, 0, 1) if dense else own[:, 0])[:, center, center] += dynamic[image]
        groups = 1 if dense else pconv.pdim
        out = conv(head[image : image + 1], own, None, padding=(reach, reach), groups=groups)
        y[image, ..., : pconv.pdim] = out[0].permute(1, 2, 0)
