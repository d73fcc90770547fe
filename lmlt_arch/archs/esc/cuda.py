"""Inference of ESC's blocks on a GPU: what `lmlt_arch.archs.esc.blocks` defines, in few kernels.

The dynamic 3x3 kernel of an image becomes part of the large kernel's center, and ESC-FP's channel mixing
part of all of it: one dense convolution (arXiv 2503.06671, section 3.2). Windows, scores and concatenations
are never stored. Import this module only where Triton is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from triton import cdiv, next_power_of_2

from lmlt_arch.archs.common.kernel_dispatch import convolution_constants, padded, pitch, product_constants
from lmlt_arch.archs.common.padding import cells
from lmlt_arch.archs.esc import triton_kernels as kernels

if TYPE_CHECKING:
    from lmlt_arch.archs.esc.attention import WindowAttention
    from lmlt_arch.archs.esc.blocks import ConvAttn, ConvFFN, ESCBlock, LargeKernel, SharedKernels

# How a kernel divides its work: the fastest of four to nine ways each on an NVIDIA H200.
NORM = {"PIXELS": 64, "num_warps": 4}
LINEAR = {"PIXELS": 64, "TARGETS": 32, "num_warps": 4}
CONTRACT = {"PIXELS": 32, "SOURCES": 16, "num_warps": 2, "num_stages": 1}
PREDICT = {"TILES": 64, "num_warps": 4}
# Of half precision; float32 has twice as many groups.
LARGE = {"GROUPS": 128, "SOURCES": 64, "num_warps": 8}
CONVOLVE = {"PIXELS": 128, "num_warps": 8}
# Pixels side by side that are one row of the large kernel's matrix product.
GROUP = 4
BIAS = {"KEYS": 1024, "num_warps": 4}
ATTEND = {"QUERIES": 64, "KEYS": 64, "num_warps": 4, "num_stages": 2}


def run_blocks(blocks: Sequence[ESCBlock], x: Tensor, shared: SharedKernels) -> Tensor:
    """All blocks, one after the other.

    Args:
        blocks: in evaluation mode, all alike.
        x: (B, dim, H, W); is left as it is.
        shared: the large kernel, dense or as a pair of channel mixing and depth-wise kernel.

    Returns:
        Like `x`, channels last.
    """
    x = x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    run = _Run(x, cast("ConvAttn", blocks[0].pconvs[0]).pdim, tuple(kernel.to(x.dtype) for kernel in shared))
    run.gather_taps(block.proj for block in blocks)
    run.gather_taps(ffn for block in blocks for _, ffn, _ in block.pairs())
    # Triton launches on the current device, whichever the tensors are on.
    with torch.cuda.device_of(x):
        for block in blocks:
            run.block(block)
    return x.permute(0, 3, 1, 2)


class _Run:
    """The map, and the buffers by which the kernels of a block pass on their results.

    Args:
        x: (B, H, W, dim), contiguous; changes in place.
        pdim: channels that pass through the large kernel.
        shared: as of `run_blocks`.
    """

    def __init__(self, x: Tensor, pdim: int, shared: SharedKernels) -> None:
        self.x, self.pdim = x, pdim
        self.batch, self.height, self.width, self.dim = x.shape
        self.pixels = self.height * self.width
        self.padded = padded(self.dim)
        # How far loads run ahead of products; three stages of float32 take more memory than some GPUs share.
        self.stages = 3 if x.element_size() == 2 else 2
        self.constants = convolution_constants()
        self.running = torch.empty_like(x)
        self.y = torch.empty_like(x)

        *mixing, kernel = shared
        # A 1x1 kernel has no room for the dynamic one.
        self.side = max(3, kernel.shape[-1])
        kernel = functional.pad(kernel, ((self.side - kernel.shape[-1]) // 2,) * 4)
        # (out, in, side, side) -> (side, side, in, out)
        self.kernel = kernel.permute(2, 3, 1, 0).contiguous()
        self.mixing = mixing[0] if mixing else None
        self.counted = padded(pdim)
        self.head = x.new_empty(self.batch, self.height, self.width, self.counted)
        self.tiles = cdiv(self.pixels, CONTRACT["PIXELS"])
        self.sums = torch.empty(self.batch, self.tiles, self.counted, device=x.device)
        self.span = next_power_of_2(self.side + GROUP - 1)
        self.taps: dict[ConvFFN, Tensor] = {}
        # Its zeros are the same for all layers.
        self.own = x.new_zeros(self.batch, self.side, self.span, self.counted, GROUP, self.counted)

    def gather_taps(self, ffns: Iterable[ConvFFN]) -> None:
        """`taps` of layers of one width, (10, pitch) each: what `contract_kernel` reads of their `dwc`."""
        layers = [*ffns]
        taps = torch.stack([ffn.dwc.weight.flatten(1) for ffn in layers])
        biases = torch.stack([cast(Tensor, ffn.dwc.bias) for ffn in layers])
        both = torch.cat((taps, biases[:, :, None]), 2).mT
        hidden = both.shape[-1]
        both = functional.pad(both, (0, pitch(hidden) - hidden)).contiguous()
        self.taps.update(zip(layers, both, strict=True))

    def block(self, block: ESCBlock) -> None:
        """One block."""
        self.feed_forward(block.proj, block.ln_proj, self.x, self.running, count=0)
        self.attend(block.attn, block.ln_attn)
        for norm, ffn, pconv in block.pairs():
            self.feed_forward(ffn, norm, self.running, self.y, count=self.pdim)
            self.predict(pconv.plk)
            self.convolve_large()
            self.linear(pconv.aggr, self.y, self.running, add=True)
        self.finish(block)

    def feed_forward(self, ffn: ConvFFN, norm: nn.Module, x: Tensor, out: Tensor, *, count: int) -> None:
        """`out = ffn(norm(x))`; `head` and `sums` from its first `count` channels."""
        hidden = ffn.proj.out_channels
        a = x.new_empty(self.batch, self.height, self.width, pitch(hidden))
        self.linear(ffn.proj, x, a, norm=norm, gelu=True)
        kernels.contract_kernel[(self.tiles, self.batch)](
            a, self.taps[ffn], ffn.aggr.weight, ffn.aggr.bias, out, self.head, self.sums,
            self.pixels, self.height, self.width, HIDDEN=hidden, PITCH=a.shape[-1],
            WIDTH=self.dim, PADDED=self.padded, COUNT=count, COUNTED=self.counted,
            **self.constants, **CONTRACT,
        )  # fmt: skip

    def linear(
        self,
        conv: nn.Conv2d,
        x: Tensor,
        out: Tensor,
        *,
        norm: nn.Module | None = None,
        gelu: bool = False,
        add: bool = False,
    ) -> None:
        """`out = conv(norm(x))`, followed by a GELU if wanted, or `out += conv(norm(x))`."""
        layer_norm = norm if isinstance(norm, nn.LayerNorm) else None
        norm_weight, norm_bias = (layer_norm.weight, layer_norm.bias) if layer_norm else (x, x)
        total = self.batch * self.pixels
        kernels.linear_kernel[(cdiv(total, LINEAR["PIXELS"]),)](
            x, norm_weight, norm_bias, conv.weight, conv.bias, out, total,
            WIDTH=self.dim, PADDED=self.padded, OUT=conv.out_channels, PITCH=out.shape[-1],
            NORM=layer_norm is not None, GELU=gelu, ADD=add,
            **self.constants, **LINEAR,
        )  # fmt: skip

    def attend(self, attention: WindowAttention, norm: nn.Module) -> None:
        """`running += attention(norm(running))`."""
        w, heads = attention.window_size, attention.num_heads
        table = attention.relative_position_bias
        bias = table.new_empty(heads, w * w, w * w)
        kernels.bias_kernel[(w * w, heads)](table, bias, WINDOW=w, **BIAS)
        qkv = self.x.new_empty(self.batch, self.height, self.width, 3 * self.dim)
        self.linear(attention.to_qkv, self.running, qkv, norm=norm)
        rows, cols = cells(self.height, w), cells(self.width, w)
        channels = self.dim // heads
        programs = self.batch * rows * cols * cdiv(w * w, ATTEND["QUERIES"])
        kernels.attend_kernel[(programs, heads)](
            qkv, bias, self.y, self.height, self.width, rows, cols,
            HEADS=heads, CHANNELS=channels, PADDED=padded(channels), WINDOW=w,
            SCALE=channels**-0.5, **product_constants(), **ATTEND,
        )  # fmt: skip
        self.linear(attention.to_out, self.y, self.running, add=True)

    def predict(self, plk: LargeKernel) -> None:
        """`own`, the large kernel of each image, from `sums`."""
        pool, first, _, second = cast(
            "tuple[nn.AdaptiveAvgPool2d, nn.Conv2d, nn.GELU, nn.Conv2d]", tuple(plk.head())
        )
        sums, tiles, pixels = self.sums, self.tiles, self.pixels
        if pool._forward_hooks or pool._forward_pre_hooks:
            # Tiles of an image share its averages.
            average = pool(self.y[..., : self.pdim].permute(0, 3, 1, 2))
            sums, tiles, pixels = (
                functional.pad(average.flatten(1).float(), (0, self.counted - self.pdim)),
                1,
                1,
            )
        inner = first.out_channels
        kernels.predict_kernel[(self.side, self.batch)](
            sums, tiles, pixels, first.weight, first.bias, second.weight, second.bias,
            self.kernel, self.kernel if self.mixing is None else self.mixing, self.own,
            COUNT=self.pdim, COUNTED=self.counted, INNER=inner, INNER_PADDED=next_power_of_2(inner),
            SIDE=self.side, SPAN=self.span, GROUP=GROUP, SEPARABLE=self.mixing is not None, **PREDICT,
        )  # fmt: skip

    def convolve_large(self) -> None:
        """Write the convolution of `head` by `own` to the first channels of `y`."""
        cols = cdiv(self.width, GROUP)
        groups = self.height * cols
        divided = {**LARGE, "GROUPS": LARGE["GROUPS"] * self.head.element_size() // 2}
        kernels.large_kernel[(cdiv(groups, divided["GROUPS"]), self.batch)](
            self.head, self.own, self.y, groups, cols, self.height, self.width,
            COUNT=self.pdim, COUNTED=self.counted, PITCH=self.dim, SIDE=self.side, SPAN=self.span,
            GROUP=GROUP, **self.constants,
            num_stages=self.stages, **divided,
        )  # fmt: skip

    def finish(self, block: ESCBlock) -> None:
        """`x += conv_out(ln_out(running))`."""
        conv, norm = block.conv_out, block.ln_out
        total = self.batch * self.pixels
        kernels.norm_kernel[(cdiv(total, NORM["PIXELS"]),)](
            self.running, norm.weight, norm.bias, self.y, total, WIDTH=self.dim, PADDED=self.padded, **NORM
        )
        # (out, in, 3, 3) -> (3, 3, in, out)
        weight = conv.weight.permute(2, 3, 1, 0).contiguous()
        kernels.convolve_kernel[(cdiv(total, CONVOLVE["PIXELS"]),)](
            self.y, weight, conv.bias, self.x, total, self.height, self.width,
            WIDTH=self.dim, PADDED=self.padded,
            **self.constants, num_stages=self.stages, **CONVOLVE,
        )  # fmt: skip
