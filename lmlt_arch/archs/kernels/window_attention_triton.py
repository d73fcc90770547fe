"""The Triton kernel of LMLT's window attention; import this module only where Triton is installed."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

# How many windows a program works through, and in how many warps. The best depends on the GPU, the width and
# the number of windows: the autotuner measures, once per machine.
CONFIGS = [
    triton.Config({"WINDOWS": windows}, num_warps=warps, num_stages=2)
    for windows, warps in ((1, 2), (1, 4), (2, 4), (4, 4), (1, 8), (4, 8))
]

# Read as Triton reads it, when a kernel is defined.
INTERPRETED: bool = triton.knobs.runtime.interpret


# No variants of the kernel for counts that are 1 or multiples of 16: they change from image to image.
@triton.jit(do_not_specialize=["windows", "window_rows", "window_cols", "size_class"])
def attend_windows_kernel(
    qkv,
    qkv_image,
    qkv_row,
    qkv_col,
    qkv_channel,
    qkv_part,
    weight,
    bias,
    out,
    windows,
    window_rows,
    window_cols,
    size_class,
    SCALE: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    WINDOWS: tl.constexpr,
):
    """Serve `WINDOWS` windows, one after the other, beginning at `WINDOWS` times the program's number.

    `qkv` is (B, 8 window_rows, 8 window_cols, 3 WIDTH) by the strides that follow it; from q to k and from k
    to v it is `qkv_part`. The others are contiguous: `weight` (WIDTH, 9), `bias` (WIDTH) and `out`, which is
    like `qkv` with WIDTH channels. `windows` is B window_rows window_cols; `size_class` is for the autotuner.

    SCALE belongs to scores that become powers of two. PADDED is WIDTH enlarged to what `tl.dot` takes.
    PRECISION is that of float32 products, "ieee" or "tf32". WIDEN makes all products float32, of the same
    values: the interpreter's misread bfloat16.
    """
    token = tl.arange(0, 64)
    y, x = token // 8, token % 8
    channel = tl.arange(0, PADDED)
    real = (channel < WIDTH)[None, :]
    # 64 bits: large images have more than 2^31 numbers.
    source = (
        y.to(tl.int64)[:, None] * qkv_row
        + x.to(tl.int64)[:, None] * qkv_col
        + channel.to(tl.int64)[None, :] * qkv_channel
    )
    out_row = window_cols.to(tl.int64) * 8 * WIDTH
    target = y[:, None] * out_row + (x * WIDTH)[:, None] + channel[None, :]
    positional_bias = tl.load(bias + channel[None, :], mask=real, other=0.0).to(tl.float32)

    first = tl.program_id(0) * WINDOWS
    for window in range(first, tl.minimum(first + WINDOWS, windows)):
        col = (window % window_cols).to(tl.int64)
        row = (window // window_cols % window_rows).to(tl.int64)
        image = (window // window_cols // window_rows).to(tl.int64)
        queries = qkv + image * qkv_image + row * 8 * qkv_row + col * 8 * qkv_col + source
        keys = queries + qkv_part
        values = keys + qkv_part
        q = tl.load(queries, mask=real, other=0.0)
        k = tl.load(keys, mask=real, other=0.0)
        v = tl.load(values, mask=real, other=0.0)

        if WIDEN:
            q, k = q.to(tl.float32), k.to(tl.float32)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        shares = tl.exp2((scores - tl.max(scores, 1)[:, None]) * SCALE)
        rounded = shares.to(v.dtype)
        if WIDEN:
            rounded, v = rounded.to(tl.float32), v.to(tl.float32)
        result = tl.dot(rounded, v, input_precision=PRECISION) / tl.sum(shares, 1)[:, None]

        result += positional_bias
        for tap in tl.static_range(9):
            dy = tap // 3 - 1
            dx = tap % 3 - 1
            # The convolution sees zeros outside of its window. The nine reads of v meet in the L1 cache.
            inside = (y + dy >= 0) & (y + dy < 8) & (x + dx >= 0) & (x + dx < 8)
            neighbours = values + (dy * qkv_row + dx * qkv_col)
            neighbours = tl.load(neighbours, mask=inside[:, None] & real, other=0.0)
            taps = tl.load(weight + channel[None, :] * 9 + tap, mask=real, other=0.0)
            result += neighbours.to(tl.float32) * taps.to(tl.float32)

        corner = out + (image * window_rows + row) * 8 * out_row + col * 8 * WIDTH
        tl.store(corner + target, result.to(out.dtype.element_ty), mask=real)


tuned_kernel = triton.autotune(
    # The interpreter has no clock to choose by. With 2, an odd number of windows ends in half a program.
    [triton.Config({"WINDOWS": 2})] if INTERPRETED else CONFIGS,
    key=["size_class", "WIDTH", "PRECISION"],
    cache_results=True,
)(attend_windows_kernel)


def launch(qkv: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What `lmlt_arch.archs.kernels.window_attention.attend_windows` says."""
    batch, height, width = qkv.shape[:3]
    channels = qkv.shape[3] // 3
    out = qkv.new_empty(batch, height, width, channels)
    rows, cols = height // 8, width // 8
    windows = batch * rows * cols
    image, row, col, channel = qkv.stride()

    def grid(meta: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(windows, meta["WINDOWS"]),)

    # Triton launches on the current device, whichever the tensors are on.
    with torch.cuda.device_of(qkv):
        tuned_kernel[grid](
            qkv,
            image,
            row,
            col,
            channel,
            channels * channel,
            weight.contiguous(),
            bias.contiguous(),
            out,
            windows,
            rows,
            cols,
            # Fourfold from class to class, as from level to level of the network.
            (windows - 1).bit_length() // 2,
            SCALE=math.log2(math.e) * channels**-0.5,
            WIDTH=channels,
            PADDED=max(16, triton.next_power_of_2(channels)),
            PRECISION="ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
            WIDEN=INTERPRETED,
        )
    return out
