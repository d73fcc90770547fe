"""Functions that the Triton kernels share; import this module only where Triton is installed."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gelu(x):
    """The exact GELU of float32, but for 1e-7 |x|: erf by Abramowitz and Stegun, 7.1.26."""
    size = tl.abs(x)
    t = 1.0 / (1.0 + 0.23164189 * size)
    # 1 - erf(size / sqrt(2)). Half the operations of tl.erf, which took a third of some kernels.
    rest = 1.421413741 + t * (-1.453152027 + t * 1.061405429)
    rest = t * (0.254829592 + t * (-0.284496736 + t * rest)) * tl.exp2(-0.72134752 * x * x)
    return tl.maximum(x, 0.0) - 0.5 * size * rest


@triton.jit
def product(a, b, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """`a @ b`, summed in float32.

    PRECISION is that of float32 factors: "ieee", "tf32x3" (nearly as exact) or "tf32". WIDEN makes all of
    them float32, of the same values: the interpreter's misread bfloat16.
    """
    if WIDEN:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def normalize(x, weight, bias, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """LayerNorm of each row of (n, PADDED), float32, whose columns from WIDTH on are zero and stay so."""
    channel = tl.arange(0, PADDED)
    real = channel < WIDTH
    centered = tl.where(real[None, :], x - (tl.sum(x, 1) / WIDTH)[:, None], 0.0)
    normed = centered * tl.rsqrt(tl.sum(centered * centered, 1) / WIDTH + 1e-6)[:, None]
    gain = tl.load(weight + channel, mask=real, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=real, other=0.0).to(tl.float32)
    return normed * gain[None, :] + shift[None, :]


@triton.jit(do_not_specialize=["pixels"])
def norm_kernel(
    x, weight, bias, out, pixels, WIDTH: tl.constexpr, PADDED: tl.constexpr, PIXELS: tl.constexpr
):
    """LayerNorm of every pixel of a map."""
    start = tl.program_id(0).to(tl.int64) * PIXELS
    number, channel = tl.arange(0, PIXELS), tl.arange(0, PADDED)
    place = number[:, None] * WIDTH + channel[None, :]
    real = (start + number < pixels)[:, None] & (channel < WIDTH)[None, :]
    rows = tl.load(x + start * WIDTH + place, mask=real, other=0.0).to(tl.float32)
    rows = normalize(rows, weight, bias, WIDTH, PADDED)
    tl.store(out + start * WIDTH + place, rows.to(out.dtype.element_ty), mask=real)


@triton.jit
def on_map(line, column, height, width):
    """Whether pixels lie on a map, beyond which convolutions see zeros."""
    return (line >= 0) & (line < height) & (column >= 0) & (column < width)
