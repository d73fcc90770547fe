"""LMLT's blocks in four Triton kernels, and the gradients of one.

Import this module only where Triton is installed. Maps are (B, H, W, C), contiguous, H and W multiples of 64.
Sums are float32.
"""

# Lists of parameters are long.
# fmt: off
from __future__ import annotations

import triton
import triton.language as tl

from lmlt_arch.archs.common.triton_parts import gelu, normalize, product


@triton.jit(do_not_specialize=["tile_cols"])
def norm_pool_kernel(
    x, weight, bias, normed, pooled_1, pooled_2, pooled_3, tile_cols, SHARE: tl.constexpr,
    PITCH: tl.constexpr, PADDED: tl.constexpr,
):
    """LayerNorm of a tile of 8 x 8 pixels, and the largest of each 2 x 2, 4 x 4 and 8 x 8 pixels.

    `x` has 4 SHARE channels, and so has `normed`, followed by zeros up to PITCH. `pooled_i` has channels i
    SHARE to (i + 1) SHARE, in 2^i times less rows and columns.
    """
    WIDTH: tl.constexpr = 4 * SHARE
    tile = tl.program_id(0)
    col = tile % tile_cols
    row = (tile // tile_cols).to(tl.int64)  # of all images, one below the other
    # Morton order: four pixels that pool together follow each other, on each level.
    p = tl.arange(0, 64)
    dx = (p & 1) | (p >> 1 & 2) | (p >> 2 & 4)
    dy = (p >> 1 & 1) | (p >> 2 & 2) | (p >> 3 & 4)
    channel = tl.arange(0, PADDED)
    pixel = ((row * 8 + dy) * (tile_cols * 8) + col * 8 + dx)[:, None]
    y = tl.load(x + pixel * WIDTH + channel[None, :], mask=(channel < WIDTH)[None, :], other=0.0)
    y = normalize(y.to(tl.float32), weight, bias, WIDTH, PADDED)
    place = pixel * PITCH + channel[None, :]
    tl.store(normed + place, y.to(normed.dtype.element_ty), mask=(channel < PITCH)[None, :])

    y = tl.max(tl.reshape(y, (16, 4, PADDED)), 1)
    p = tl.arange(0, 16)
    dx = (p & 1) | (p >> 1 & 2)
    dy = (p >> 1 & 1) | (p >> 2 & 2)
    place = ((row * 4 + dy) * (tile_cols * 4) + col * 4 + dx)[:, None] * SHARE + (channel - SHARE)[None, :]
    own = ((channel >= SHARE) & (channel < 2 * SHARE))[None, :]
    tl.store(pooled_1 + place, y.to(normed.dtype.element_ty), mask=own)

    y = tl.max(tl.reshape(y, (4, 4, PADDED)), 1)
    p = tl.arange(0, 4)
    place = ((row * 2 + (p >> 1)) * (tile_cols * 2) + col * 2 + (p & 1))[:, None] * SHARE
    place += (channel - 2 * SHARE)[None, :]
    own = ((channel >= 2 * SHARE) & (channel < 3 * SHARE))[None, :]
    tl.store(pooled_2 + place, y.to(normed.dtype.element_ty), mask=own)

    place = (row * tile_cols + col) * SHARE + channel - 3 * SHARE
    own = (channel >= 3 * SHARE) & (channel < WIDTH)
    tl.store(pooled_3 + place, tl.max(y, 0).to(normed.dtype.element_ty), mask=own)


@triton.jit
def window_pixels(window, window_cols, SIDE: tl.constexpr):
    """Positions of the 64 pixels of a window in maps one below the other; SIDE: of a window there, 8 or 4."""
    token = tl.arange(0, 64)
    y, x = token // 8 // (8 // SIDE), token % 8 // (8 // SIDE)
    col = window % window_cols
    row = (window // window_cols).to(tl.int64)
    return (row * SIDE + y) * (window_cols * SIDE) + col * SIDE + x


@triton.jit
def vector(values, part, SHARE: tl.constexpr, PADDED: tl.constexpr):
    """Part number `part` of SHARE values each, (1, PADDED), float32."""
    channel = tl.arange(0, PADDED)
    found = tl.load(values + part * SHARE + channel, mask=channel < SHARE, other=0.0)
    return found.to(tl.float32)[None, :]


@triton.jit
def linear_part(x, weight, bias, part, SHARE: tl.constexpr, PADDED: tl.constexpr):
    """Part number `part` of a linear layer, SHARE channels to as many: weight (in, out), as `x`, and bias."""
    channel = tl.arange(0, PADDED)
    real = (channel < SHARE)[:, None] & (channel < SHARE)[None, :]
    # In memory it is (out, in).
    place = part * SHARE * SHARE + channel[:, None] + channel[None, :] * SHARE
    factor = tl.load(weight + place, mask=real, other=0.0).to(x.dtype.element_ty)
    return factor, vector(bias, part, SHARE, PADDED)


@triton.jit
def neighbors(rows, dy, dx, PADDED: tl.constexpr):
    """Of (64, PADDED), pixels of a window of 8 x 8, those so far down and to the right; zeros outside."""
    token = tl.arange(0, 64)
    y, x = token // 8 + dy, token % 8 + dx
    inside = (y >= 0) & (y < 8) & (x >= 0) & (x < 8)
    source = tl.where(inside, y * 8 + x, token)
    found = tl.gather(rows, tl.broadcast_to(source[:, None], (64, PADDED)), 0)
    return tl.where(inside[:, None], found, 0.0)


@triton.jit
def taps_of(local_weight, tap, SHARE: tl.constexpr, PADDED: tl.constexpr):
    """One of the nine taps of a depth-wise 3x3 kernel, (1, PADDED), float32."""
    channel = tl.arange(0, PADDED)
    found = tl.load(local_weight + channel * 9 + tap, mask=channel < SHARE, other=0.0)
    return found.to(tl.float32)[None, :]


@triton.jit
def attended(
    q, k, v, local_weight, local_bias, SCALE: tl.constexpr, SHARE: tl.constexpr, PADDED: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):
    """Weights of the keys, (64, 64), their sums, and attention with its positional term, float32."""
    scores = product(q, tl.trans(k), PRECISION, WIDEN)
    weights = tl.exp2((scores - tl.max(scores, 1)[:, None]) * SCALE)
    sums = tl.sum(weights, 1)[:, None]
    result = product(weights.to(q.dtype), v.to(q.dtype), PRECISION, WIDEN) / sums
    result += vector(local_bias, 0, SHARE, PADDED)
    # Not unrolled: that would take twice the registers, since all nine shifts are prepared at once.
    for tap in range(9):
        taps = taps_of(local_weight, tap, SHARE, PADDED)
        result += neighbors(v, tap // 3 - 1, tap % 3 - 1, PADDED) * taps
    return weights, sums, result


@triton.jit(do_not_specialize=["windows", "window_cols"])
def attend_kernel(
    z, z_pixel, coarser, qkv_weight, qkv_bias, local_weight, local_bias, proj_weight, proj_bias, out,
    windows, window_cols, SCALE: tl.constexpr, SHARE: tl.constexpr, PADDED: tl.constexpr,
    ADD_COARSER: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, WINDOWS: tl.constexpr,
):
    """One level for `WINDOWS` windows of 8 x 8 pixels, one after the other.

    `z` is the level's input, SHARE channels every `z_pixel` numbers; `coarser`, half as high and wide, is
    upscaled and added to it. `windows` is their number in all images. SCALE belongs to scores that become
    powers of two. PADDED is SHARE rounded up to what `tl.dot` takes.
    """
    channel = tl.arange(0, PADDED)
    real = (channel < SHARE)[None, :]
    dtype = z.dtype.element_ty
    w_q, b_q = linear_part(z, qkv_weight, qkv_bias, 0, SHARE, PADDED)
    w_k, b_k = linear_part(z, qkv_weight, qkv_bias, 1, SHARE, PADDED)
    w_v, b_v = linear_part(z, qkv_weight, qkv_bias, 2, SHARE, PADDED)
    w_out, b_out = linear_part(z, proj_weight, proj_bias, 0, SHARE, PADDED)
    first = tl.program_id(0) * WINDOWS
    for window in range(first, tl.minimum(first + WINDOWS, windows)):
        pixel = window_pixels(window, window_cols, 8)
        rows = tl.load(z + pixel[:, None] * z_pixel + channel[None, :], mask=real, other=0.0)
        if ADD_COARSER:
            below = window_pixels(window, window_cols, 4)
            upscaled = tl.load(coarser + below[:, None] * SHARE + channel[None, :], mask=real, other=0.0)
            rows = (rows.to(tl.float32) + upscaled.to(tl.float32)).to(dtype)
        q = (product(rows, w_q, PRECISION, WIDEN) + b_q).to(dtype)
        k = (product(rows, w_k, PRECISION, WIDEN) + b_k).to(dtype)
        v = product(rows, w_v, PRECISION, WIDEN) + b_v
        _, _, result = attended(q, k, v, local_weight, local_bias, SCALE, SHARE, PADDED, PRECISION, WIDEN)
        result = product(result.to(dtype), w_out, PRECISION, WIDEN) + b_out
        tl.store(out + pixel[:, None] * SHARE + channel[None, :], result.to(dtype), mask=real)


@triton.jit(do_not_specialize=["windows", "window_cols", "windows_each"])
def attend_backward_kernel(
    z, z_pixel, qkv_weight, qkv_bias, local_weight, local_bias, proj_weight, grad, z_grad, weight_grads,
    windows, window_cols, windows_each, SCALE: tl.constexpr, SHARE: tl.constexpr, PADDED: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):
    """Gradients of `attend_kernel` without `coarser`, for `windows_each` windows.

    `grad` and `z_grad` have SHARE channels. `weight_grads` (programs, 4 PADDED + 16, PADDED), float32,
    receives this program's share: the weights of q, k, v and the projection, (in, out) each; then a row for
    each of their biases, for the positional term's bias and for each of its nine taps.
    """
    channel = tl.arange(0, PADDED)
    real = (channel < SHARE)[None, :]
    dtype = z.dtype.element_ty
    w_q, b_q = linear_part(z, qkv_weight, qkv_bias, 0, SHARE, PADDED)
    w_k, b_k = linear_part(z, qkv_weight, qkv_bias, 1, SHARE, PADDED)
    w_v, b_v = linear_part(z, qkv_weight, qkv_bias, 2, SHARE, PADDED)
    # Gradients do not depend on the projection's bias.
    w_out, _ = linear_part(z, proj_weight, qkv_bias, 0, SHARE, PADDED)
    # SCALE without the change to powers of two.
    factor: tl.constexpr = SCALE * 0.6931471805599453
    number = tl.arange(0, 16)[:, None]
    of_q = tl.zeros((PADDED, PADDED), tl.float32)
    of_k = tl.zeros((PADDED, PADDED), tl.float32)
    of_v = tl.zeros((PADDED, PADDED), tl.float32)
    of_out = tl.zeros((PADDED, PADDED), tl.float32)
    of_vectors = tl.zeros((16, PADDED), tl.float32)
    first = tl.program_id(0) * windows_each
    for window in range(first, tl.minimum(first + windows_each, windows)):
        pixel = window_pixels(window, window_cols, 8)
        rows = tl.load(z + pixel[:, None] * z_pixel + channel[None, :], mask=real, other=0.0)
        q = (product(rows, w_q, PRECISION, WIDEN) + b_q).to(dtype)
        k = (product(rows, w_k, PRECISION, WIDEN) + b_k).to(dtype)
        v = product(rows, w_v, PRECISION, WIDEN) + b_v
        weights, sums, result = attended(
            q, k, v, local_weight, local_bias, SCALE, SHARE, PADDED, PRECISION, WIDEN
        )
        shares = weights / sums

        d_out = tl.load(grad + pixel[:, None] * SHARE + channel[None, :], mask=real, other=0.0)
        of_out += product(tl.trans(result.to(dtype)), d_out, PRECISION, WIDEN)
        of_vectors += tl.where(number == 3, tl.sum(d_out.to(tl.float32), 0)[None, :], 0.0)
        d_result = product(d_out, tl.trans(w_out), PRECISION, WIDEN)
        of_vectors += tl.where(number == 4, tl.sum(d_result, 0)[None, :], 0.0)
        d_short = d_result.to(dtype)
        d_v = product(tl.trans(shares.to(dtype)), d_short, PRECISION, WIDEN)
        for tap in range(9):
            dy = tap // 3 - 1
            dx = tap % 3 - 1
            d_v += neighbors(d_result, -dy, -dx, PADDED) * taps_of(local_weight, tap, SHARE, PADDED)
            of_tap = tl.sum(neighbors(v, dy, dx, PADDED) * d_result, 0)
            of_vectors += tl.where(number == 5 + tap, of_tap[None, :], 0.0)
        d_shares = product(d_short, tl.trans(v.to(dtype)), PRECISION, WIDEN)
        d_scores = shares * (d_shares - tl.sum(d_shares * shares, 1)[:, None]) * factor
        d_scores = d_scores.to(dtype)
        d_q = product(d_scores, k, PRECISION, WIDEN)
        d_k = product(tl.trans(d_scores), q, PRECISION, WIDEN)
        of_vectors += tl.where(number == 0, tl.sum(d_q, 0)[None, :], 0.0)
        of_vectors += tl.where(number == 1, tl.sum(d_k, 0)[None, :], 0.0)
        of_vectors += tl.where(number == 2, tl.sum(d_v, 0)[None, :], 0.0)
        d_q, d_k, d_v = d_q.to(dtype), d_k.to(dtype), d_v.to(dtype)
        turned = tl.trans(rows)
        of_q += product(turned, d_q, PRECISION, WIDEN)
        of_k += product(turned, d_k, PRECISION, WIDEN)
        of_v += product(turned, d_v, PRECISION, WIDEN)
        d_z = product(d_q, tl.trans(w_q), PRECISION, WIDEN)
        d_z += product(d_k, tl.trans(w_k), PRECISION, WIDEN)
        d_z += product(d_v, tl.trans(w_v), PRECISION, WIDEN)
        tl.store(z_grad + pixel[:, None] * SHARE + channel[None, :], d_z.to(dtype), mask=real)
    to = weight_grads + tl.program_id(0) * ((4 * PADDED + 16) * PADDED)
    place = channel[:, None] * PADDED + channel[None, :]
    tl.store(to + place, of_q)
    tl.store(to + PADDED * PADDED + place, of_k)
    tl.store(to + 2 * PADDED * PADDED + place, of_v)
    tl.store(to + 3 * PADDED * PADDED + place, of_out)
    tl.store(to + 4 * PADDED * PADDED + number * PADDED + channel[None, :], of_vectors)


@triton.jit
def level_share(
    level, y, x, image, height, width, weight, inside, NUMBER: tl.constexpr, SHARE: tl.constexpr,
    PADDED: tl.constexpr, PADDED_WIDTH: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):
    """The share of a level in `aggr`, at the pixels of the finest one."""
    channel, target = tl.arange(0, PADDED), tl.arange(0, PADDED_WIDTH)
    rows = height >> NUMBER
    cols = width >> NUMBER
    place = ((image * rows + (y >> NUMBER)) * cols + (x >> NUMBER))[:, None] * SHARE + channel[None, :]
    rows = tl.load(level + place, mask=inside[:, None] & (channel < SHARE)[None, :], other=0.0)
    # Coarsest first: the order in which `aggr` expects the levels.
    source = (3 - NUMBER) * SHARE + channel
    factor = tl.load(
        weight + source[:, None] + target[None, :] * (4 * SHARE),
        mask=(channel < SHARE)[:, None] & (target < 4 * SHARE)[None, :],
        other=0.0,
    )
    return product(rows, factor, PRECISION, WIDEN)


@triton.jit(do_not_specialize=["pixels"])
def aggregate_kernel(
    level_0, level_1, level_2, level_3, weight, bias, x, norm_weight, norm_bias, normed, pixels, height,
    width, SHARE: tl.constexpr, PITCH: tl.constexpr, PADDED: tl.constexpr, PADDED_WIDTH: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, PIXELS: tl.constexpr,
):
    """`x += gelu(aggr(levels)) normed`, then `normed` becomes the LayerNorm of that; both in place."""
    WIDTH: tl.constexpr = 4 * SHARE
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < pixels
    column = pixel % width
    line = pixel // width % height
    image = pixel // width // height
    target = tl.arange(0, PADDED_WIDTH)
    total = tl.zeros((PIXELS, PADDED_WIDTH), tl.float32)
    total += tl.load(bias + target, mask=target < WIDTH, other=0.0).to(tl.float32)[None, :]
    total += level_share(
        level_3, line, column, image, height, width, weight, inside, 3, SHARE, PADDED, PADDED_WIDTH,
        PRECISION, WIDEN,
    )
    total += level_share(
        level_2, line, column, image, height, width, weight, inside, 2, SHARE, PADDED, PADDED_WIDTH,
        PRECISION, WIDEN,
    )
    total += level_share(
        level_1, line, column, image, height, width, weight, inside, 1, SHARE, PADDED, PADDED_WIDTH,
        PRECISION, WIDEN,
    )
    total += level_share(
        level_0, line, column, image, height, width, weight, inside, 0, SHARE, PADDED, PADDED_WIDTH,
        PRECISION, WIDEN,
    )
    place = pixel[:, None] * WIDTH + target[None, :]
    real = inside[:, None] & (target < WIDTH)[None, :]
    normed_place = pixel[:, None] * PITCH + target[None, :]
    gates = tl.load(normed + normed_place, mask=real, other=0.0).to(tl.float32)
    result = tl.load(x + place, mask=real, other=0.0).to(tl.float32) + gelu(total) * gates
    tl.store(x + place, result.to(x.dtype.element_ty), mask=real)
    result = normalize(result, norm_weight, norm_bias, WIDTH, PADDED_WIDTH)
    real = inside[:, None] & (target < PITCH)[None, :]
    tl.store(normed + normed_place, result.to(x.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["pixels"])
def merge_kernel(
    hidden, hidden_bias, weight, bias, x, pixels, WIDTH: tl.constexpr, HIDDEN: tl.constexpr,
    PITCH: tl.constexpr, PADDED_WIDTH: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    PIXELS: tl.constexpr, SOURCES: tl.constexpr,
):
    """`x += merge(gelu(hidden + hidden_bias))`, in place: the mixer after its 3x3 convolution.

    `hidden` has HIDDEN channels and a pitch of PITCH. SOURCES of them are summed at a time.
    """
    start = tl.program_id(0).to(tl.int64) * PIXELS
    number, source, channel = tl.arange(0, PIXELS), tl.arange(0, SOURCES), tl.arange(0, PADDED_WIDTH)
    inside = (start + number < pixels)[:, None]
    total = tl.zeros((PIXELS, PADDED_WIDTH), tl.float32)
    total += tl.load(bias + channel, mask=channel < WIDTH, other=0.0).to(tl.float32)[None, :]
    for first in range(0, HIDDEN, SOURCES):
        own = first + source
        made = own < HIDDEN
        place = number[:, None] * PITCH + own[None, :]
        rows = tl.load(hidden + start * PITCH + place, mask=inside & made[None, :], other=0.0).to(tl.float32)
        rows += tl.load(hidden_bias + own, mask=made, other=0.0).to(tl.float32)[None, :]
        factor = tl.load(
            weight + own[:, None] + channel[None, :] * HIDDEN,
            mask=made[:, None] & (channel < WIDTH)[None, :],
            other=0.0,
        )
        total += product(gelu(rows).to(factor.dtype), factor, PRECISION, WIDEN)
    place = number[:, None] * WIDTH + channel[None, :]
    real = inside & (channel < WIDTH)[None, :]
    corner = x + start * WIDTH
    result = tl.load(corner + place, mask=real, other=0.0).to(tl.float32) + total
    tl.store(corner + place, result.to(x.dtype.element_ty), mask=real)
