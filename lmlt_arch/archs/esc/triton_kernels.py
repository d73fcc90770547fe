"""The blocks of the ESC family in eight Triton kernels; import this module only where Triton is installed.

Maps are (B, H, W, C), contiguous; where a map has a pitch, zeros follow its channels up to there. Sums are
float32.
"""

# Lists of parameters are long.
# fmt: off
from __future__ import annotations

import triton
import triton.language as tl

from lmlt_arch.archs.common.triton_parts import gelu, normalize, on_map, product
from lmlt_arch.archs.common.triton_parts import norm_kernel as norm_kernel  # launched with the others


@triton.jit(do_not_specialize=["pixels"])
def linear_kernel(
    x, norm_weight, norm_bias, weight, bias, out, pixels, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    OUT: tl.constexpr, PITCH: tl.constexpr, NORM: tl.constexpr, GELU: tl.constexpr, ADD: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, PIXELS: tl.constexpr, TARGETS: tl.constexpr,
):
    """A 1x1 convolution from WIDTH to OUT channels.

    A LayerNorm comes before it (NORM), a GELU after it, or it is added to `out` (ADD), whose pitch is PITCH.
    TARGETS channels are made at a time.
    """
    start = tl.program_id(0).to(tl.int64) * PIXELS
    number, channel = tl.arange(0, PIXELS), tl.arange(0, PADDED)
    inside = (start + number < pixels)[:, None]
    place = number[:, None] * WIDTH + channel[None, :]
    rows = tl.load(x + start * WIDTH + place, mask=inside & (channel < WIDTH)[None, :], other=0.0)
    if NORM:
        rows = normalize(rows.to(tl.float32), norm_weight, norm_bias, WIDTH, PADDED).to(x.dtype.element_ty)
    for first in tl.static_range(0, PITCH, TARGETS):
        target = first + tl.arange(0, TARGETS)
        factor = tl.load(
            weight + channel[:, None] + target[None, :] * WIDTH,
            mask=(channel < WIDTH)[:, None] & (target < OUT)[None, :],
            other=0.0,
        )
        result = product(rows, factor, PRECISION, WIDEN)
        result += tl.load(bias + target, mask=target < OUT, other=0.0).to(tl.float32)[None, :]
        if GELU:
            result = gelu(result)
        to = out + start * PITCH + number[:, None] * PITCH + target[None, :]
        real = inside & (target < PITCH)[None, :]
        if ADD:
            result += tl.load(to, mask=real, other=0.0).to(tl.float32)
        tl.store(to, result.to(out.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["pixels", "height", "width"])
def contract_kernel(
    hidden, local, weight, bias, out, head, sums, pixels, height, width, HIDDEN: tl.constexpr,
    PITCH: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, COUNT: tl.constexpr,
    COUNTED: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, PIXELS: tl.constexpr,
    SOURCES: tl.constexpr,
):
    """The second half of a ConvFFN: `out = aggr(hidden + gelu(dwc(hidden)))`.

    `local` (10, PITCH) are the nine taps of `dwc`, and its bias. The first COUNT channels of `out`, if any,
    also go to `head`, whose pitch is COUNTED, and their sums over a tile's pixels to `sums` (B, tiles,
    COUNTED). `pixels` is height times width. SOURCES divides PITCH, that of `hidden`.
    """
    tile, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel = tile * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < pixels
    column, line = pixel % width, pixel // width
    source, channel = tl.arange(0, SOURCES), tl.arange(0, PADDED)
    corner = hidden + image * pixels * PITCH
    # Of each pixel the same taps: loaded as a map is, they lie where its numbers do.
    taps = local + source[None, :] + tl.zeros((PIXELS, 1), tl.int32)
    total = tl.zeros((PIXELS, PADDED), tl.float32)
    for first in range(0, PITCH, SOURCES):
        own = first + source
        place = pixel[:, None] * PITCH + own[None, :]
        center = tl.load(corner + place, mask=inside[:, None], other=0.0)
        made = tl.load(taps + 9 * PITCH + first).to(tl.float32)
        for row in range(3):
            for col in tl.static_range(3):
                seen = inside & on_map(line + row - 1, column + col - 1, height, width)
                near = corner + place + ((row - 1) * width + col - 1) * PITCH
                rows = tl.load(near, mask=seen[:, None], other=0.0).to(tl.float32)
                made += rows * tl.load(taps + (3 * row + col) * PITCH + first).to(tl.float32)
        factor = tl.load(
            weight + own[:, None] + channel[None, :] * HIDDEN,
            mask=(own < HIDDEN)[:, None] & (channel < WIDTH)[None, :],
            other=0.0,
        )
        made = (center.to(tl.float32) + gelu(made)).to(hidden.dtype.element_ty)
        total += product(made, factor, PRECISION, WIDEN)
    total += tl.load(bias + channel, mask=channel < WIDTH, other=0.0).to(tl.float32)[None, :]
    result = total.to(out.dtype.element_ty)
    to = out + image * pixels * WIDTH + pixel[:, None] * WIDTH + channel[None, :]
    tl.store(to, result, mask=inside[:, None] & (channel < WIDTH)[None, :])
    if COUNT:
        to = head + image * pixels * COUNTED + pixel[:, None] * COUNTED + channel[None, :]
        result = tl.where((channel < COUNT)[None, :], result, 0.0)
        tl.store(to, result, mask=inside[:, None] & (channel < COUNTED)[None, :])
        total = tl.sum(tl.where(inside[:, None], total, 0.0), 0)
        to = sums + (image * tl.num_programs(0) + tile) * COUNTED + channel
        tl.store(to, total, mask=channel < COUNTED)


@triton.jit(do_not_specialize=["tiles", "pixels"])
def predict_kernel(
    sums, tiles, pixels, weight_1, bias_1, weight_2, bias_2, kernel, mixing, out, COUNT: tl.constexpr,
    COUNTED: tl.constexpr, INNER: tl.constexpr, INNER_PADDED: tl.constexpr, SIDE: tl.constexpr,
    SPAN: tl.constexpr, GROUP: tl.constexpr, SEPARABLE: tl.constexpr, TILES: tl.constexpr,
):
    """A row of the large kernel of an image: the shared one, the image's own 3x3 kernel in its center.

    The own kernel is predicted from averages, `sums` (B, tiles, COUNTED) over `pixels`, by two layers, INNER
    numbers between them. `kernel` is (SIDE^2, in COUNT, out COUNT); SEPARABLE: (SIDE^2, COUNT), behind
    `mixing` (out COUNT, in COUNT). `out` is (B, SIDE, SPAN, in COUNTED, GROUP, out COUNTED), see
    `large_kernel`; only parts that are not zero are written.
    """
    row, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, inner = tl.arange(0, COUNTED), tl.arange(0, INNER_PADDED)
    real = channel < COUNT
    total = tl.zeros((TILES, COUNTED), tl.float32)
    for first in range(0, tiles, TILES):
        tile = first + tl.arange(0, TILES)
        from_sums = (image * tiles + tile)[:, None] * COUNTED + channel[None, :]
        total += tl.load(sums + from_sums, mask=(tile < tiles)[:, None] & real[None, :], other=0.0)
    average = tl.sum(total, 0) / pixels
    first_layer = tl.load(
        weight_1 + inner[:, None] * COUNT + channel[None, :],
        mask=(inner < INNER)[:, None] & real[None, :],
        other=0.0,
    )
    between = tl.sum(first_layer.to(tl.float32) * average[None, :], 1)
    between = gelu(between + tl.load(bias_1 + inner, mask=inner < INNER, other=0.0).to(tl.float32))

    reach: tl.constexpr = SIDE // 2
    both = real[:, None] & real[None, :]
    pair = channel[:, None] * COUNT + channel[None, :]
    mix = tl.zeros((COUNTED, COUNTED), tl.float32)
    if SEPARABLE:
        mix += tl.trans(tl.load(mixing + pair, mask=both, other=0.0).to(tl.float32))
    for col in range(SIDE):
        tap = row * SIDE + col
        near = (tl.abs(row - reach) <= 1) & (tl.abs(col - reach) <= 1)
        number = channel * 9 + (row - reach + 1) * 3 + col - reach + 1
        some = near & real
        second_layer = tl.load(
            weight_2 + number[:, None] * INNER + inner[None, :],
            mask=some[:, None] & (inner < INNER)[None, :],
            other=0.0,
        )
        own = tl.sum(second_layer.to(tl.float32) * between[None, :], 1)
        own += tl.load(bias_2 + number, mask=some, other=0.0).to(tl.float32)
        if SEPARABLE:
            own += tl.load(kernel + tap * COUNT + channel, mask=real, other=0.0).to(tl.float32)
            dense = mix * own[None, :]
        else:
            dense = tl.load(kernel + tap * COUNT * COUNT + pair, mask=both, other=0.0).to(tl.float32)
            dense += tl.where(channel[:, None] == channel[None, :], own[None, :], 0.0)
        for shift in tl.static_range(GROUP):
            line = (image * SIDE + row) * SPAN + col + shift
            place = ((line * COUNTED + channel[:, None]) * GROUP + shift) * COUNTED + channel[None, :]
            tl.store(out + place, dense.to(out.dtype.element_ty))


@triton.jit(do_not_specialize=["groups", "row_groups", "height", "width"])
def large_kernel(
    head, kernel, out, groups, row_groups, height, width, COUNT: tl.constexpr, COUNTED: tl.constexpr,
    PITCH: tl.constexpr, SIDE: tl.constexpr, SPAN: tl.constexpr, GROUP: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, GROUPS: tl.constexpr, SOURCES: tl.constexpr,
):
    """A SIDE x SIDE convolution of COUNT channels into the first ones of `out`, whose pitch is PITCH.

    GROUP pixels side by side are one row of a matrix product: a row of the kernel sees SPAN pixels of `head`
    for them, GROUP - 1 more than SIDE and as many as that is a power of two. So `kernel`, another for each
    image, is (SIDE, SPAN, in COUNTED, GROUP, out COUNTED), shifted by a pixel from one of the GROUP to the
    next. `head` has a pitch of COUNTED. SOURCES numbers are summed at a time.
    """
    LENGTH: tl.constexpr = SPAN * COUNTED
    STEPS: tl.constexpr = LENGTH // SOURCES
    OUT: tl.constexpr = GROUP * COUNTED
    image = tl.program_id(1).to(tl.int64)
    group = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    line, left = group // row_groups, group % row_groups * GROUP
    source, target = tl.arange(0, SOURCES), tl.arange(0, OUT)
    pixels = height * width
    corner = head + image * pixels * COUNTED
    weights = kernel + image * (SIDE * LENGTH * OUT)
    place = (line * width + left - SIDE // 2) * COUNTED
    total = tl.zeros((GROUPS, OUT), tl.float32)
    for step in range(SIDE * STEPS):
        dy = step // STEPS - SIDE // 2
        number = step % STEPS * SOURCES + source
        column = left[:, None] - SIDE // 2 + (number // COUNTED)[None, :]
        seen = (group < groups)[:, None] & on_map((line + dy)[:, None], column, height, width)
        rows = tl.load(
            corner + (place + dy * width * COUNTED)[:, None] + number[None, :], mask=seen, other=0.0
        )
        factor = tl.load(weights + (step * SOURCES + source)[:, None] * OUT + target[None, :])
        total += product(rows, factor, PRECISION, WIDEN)
    column = left[:, None] + (target // COUNTED)[None, :]
    channel = (target % COUNTED)[None, :]
    to = out + image * pixels * PITCH + (line[:, None] * width + column) * PITCH + channel
    real = (group < groups)[:, None] & (column < width) & (channel < COUNT)
    tl.store(to, total.to(out.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["pixels", "height", "width"])
def convolve_kernel(
    y, weight, bias, x, pixels, height, width, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, PIXELS: tl.constexpr,
):
    """`x += conv(y)`, in place: a 3x3 convolution. `weight` is (9, in WIDTH, out WIDTH)."""
    start = tl.program_id(0).to(tl.int64) * PIXELS
    number, channel = tl.arange(0, PIXELS), tl.arange(0, PADDED)
    column = ((start + number) % width).to(tl.int32)
    line = ((start + number) // width % height).to(tl.int32)
    inside = start + number < pixels
    real = channel < WIDTH
    total = tl.zeros((PIXELS, PADDED), tl.float32)
    total += tl.load(bias + channel, mask=real, other=0.0).to(tl.float32)[None, :]
    for tap in range(9):
        dy = tap // 3 - 1
        dx = tap % 3 - 1
        seen = inside & on_map(line + dy, column + dx, height, width)
        place = (number + dy * width + dx)[:, None] * WIDTH + channel[None, :]
        rows = tl.load(y + start * WIDTH + place, mask=seen[:, None] & real[None, :], other=0.0)
        factor = tl.load(
            weight + (tap * WIDTH + channel)[:, None] * WIDTH + channel[None, :],
            mask=real[:, None] & real[None, :],
            other=0.0,
        )
        total += product(rows, factor, PRECISION, WIDEN)
    to = x + start * WIDTH + number[:, None] * WIDTH + channel[None, :]
    real_pixels = inside[:, None] & real[None, :]
    total += tl.load(to, mask=real_pixels, other=0.0).to(tl.float32)
    tl.store(to, total.to(x.dtype.element_ty), mask=real_pixels)


@triton.jit
def bias_kernel(table, out, WINDOW: tl.constexpr, KEYS: tl.constexpr):
    """The bias of every pair of a window's pixels, (HEADS, WINDOW^2, WINDOW^2), from the table of offsets."""
    SIDE: tl.constexpr = 2 * WINDOW - 1
    TOKENS: tl.constexpr = WINDOW * WINDOW
    query, head = tl.program_id(0), tl.program_id(1)
    # The offset is key minus query.
    start = head * SIDE * SIDE + (WINDOW - 1 - query // WINDOW) * SIDE + WINDOW - 1 - query % WINDOW
    for first in range(0, TOKENS, KEYS):
        key = first + tl.arange(0, KEYS)
        found = tl.load(table + start + key // WINDOW * SIDE + key % WINDOW, mask=key < TOKENS, other=0.0)
        tl.store(out + (head * TOKENS + query).to(tl.int64) * TOKENS + key, found, mask=key < TOKENS)


@triton.jit
def mirrored(position, size):
    """`lmlt_arch.archs.common.padding.mirror_indices`, for positions from zero on."""
    last = size - 1
    period = tl.maximum(2 * last, 1)
    return last - tl.abs(position % period - last)


@triton.jit(do_not_specialize=["height", "width", "window_rows", "window_cols"])
def attend_kernel(
    qkv, bias, out, height, width, window_rows, window_cols, HEADS: tl.constexpr, CHANNELS: tl.constexpr,
    PADDED: tl.constexpr, WINDOW: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
    WIDEN: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):
    """Attention inside a window of WINDOW x WINDOW pixels, for some of its queries and one head.

    `qkv` is (B, H, W, 3 HEADS CHANNELS), `out` (B, H, W, HEADS CHANNELS), `bias` (HEADS, WINDOW^2, WINDOW^2).
    Windows that reach beyond the map see it mirrored.
    """
    WIDTH: tl.constexpr = HEADS * CHANNELS
    TOKENS: tl.constexpr = WINDOW * WINDOW
    LOG_2_E: tl.constexpr = 1.4426950408889634
    BLOCKS: tl.constexpr = (TOKENS + QUERIES - 1) // QUERIES
    block, head = tl.program_id(0) % BLOCKS, tl.program_id(1)
    window = tl.program_id(0) // BLOCKS
    image = (window // (window_rows * window_cols)).to(tl.int64)
    top = window // window_cols % window_rows * WINDOW
    left = window % window_cols * WINDOW
    corner = qkv + image * height * width * (3 * WIDTH) + head * CHANNELS
    channel = tl.arange(0, PADDED)
    real = (channel < CHANNELS)[None, :]

    query = block * QUERIES + tl.arange(0, QUERIES)
    query_y, query_x = query // WINDOW, query % WINDOW
    queries = mirrored(top + query_y, height) * width + mirrored(left + query_x, width)
    some = (query < TOKENS)[:, None] & real
    q = tl.load(corner + queries[:, None] * (3 * WIDTH) + channel[None, :], mask=some, other=0.0)
    of_query = bias + head * TOKENS * TOKENS + query[:, None] * TOKENS

    most = tl.full((QUERIES,), float("-inf"), tl.float32)
    divisor = tl.zeros((QUERIES,), tl.float32)
    total = tl.zeros((QUERIES, PADDED), tl.float32)
    for first in range(0, TOKENS, KEYS):
        key = first + tl.arange(0, KEYS)
        key_y, key_x = key // WINDOW, key % WINDOW
        keys = mirrored(top + key_y, height) * width + mirrored(left + key_x, width)
        there = key < TOKENS
        place = keys[:, None] * (3 * WIDTH) + channel[None, :]
        k = tl.load(corner + WIDTH + place, mask=there[:, None] & real, other=0.0)
        v = tl.load(corner + 2 * WIDTH + place, mask=there[:, None] & real, other=0.0)
        pairs = (query < TOKENS)[:, None] & there[None, :]
        scores = product(q, tl.trans(k), PRECISION, WIDEN) * (SCALE * LOG_2_E)
        scores += tl.load(of_query + key[None, :], mask=pairs, other=0.0).to(tl.float32) * LOG_2_E
        scores = tl.where(there[None, :], scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1))
        shares = tl.exp2(scores - higher[:, None])
        fading = tl.exp2(most - higher)
        divisor = divisor * fading + tl.sum(shares, 1)
        total = total * fading[:, None] + product(shares.to(v.dtype), v, PRECISION, WIDEN)
        most = higher
    inside = (query < TOKENS) & (top + query_y < height) & (left + query_x < width)
    pixel = (top + query_y) * width + left + query_x
    to = out + image * height * width * WIDTH + pixel[:, None] * WIDTH + head * CHANNELS + channel[None, :]
    tl.store(to, (total / divisor[:, None]).to(out.dtype.element_ty), mask=inside[:, None] & real)
