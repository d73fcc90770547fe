"""MATLAB's antialiased bicubic resize in NumPy, the downsampling that super-resolution benchmarks use.

The numbers are those of BasicSR's `basicsr.utils.matlab_functions.imresize` (cubic kernel with a = -0.5
stretched by the scale when shrinking, border mirrored, rows before columns), which loops over pixel rows and
columns. Here each tap of the kernel is one vectorized multiply-add over a block of rows, in a fixed order, so
that the result depends neither on the BLAS library nor on the processor.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

KERNEL_WIDTH = 4
# Rows are resized in blocks of about this many values, so that a block's terms stay in the processor's cache.
BLOCK_VALUES = 1 << 16

_FloatArray = NDArray[np.floating[Any]]


def imresize(
    image: NDArray[Any],
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    antialiasing: bool = True,
) -> NDArray[Any]:
    """Resize an image with the bicubic kernel of MATLAB's `imresize`.

    Give either `scale` or `size`.

    Args:
        image: shape (h, w) or (h, w, c). Floats are resized as they are, without clipping (the kernel
            overshoots by a few percent). uint8 and uint16 are resized as floats in 0..1, clipped and
            rounded, as BasicSR does around its own function.
        scale: output size over input size, for both axes. The output has `ceil(h * scale)` rows.
        size: output (height, width); each axis then has its own scale.
        antialiasing: stretch the kernel by the scale when shrinking.

    Returns:
        The resized image, of the input's dtype and number of dimensions.

    Raises:
        TypeError: the dtype is none of uint8, uint16, float32, float64.
        ValueError: the shape, the scale or the size makes no image.

    Integer images differ from BasicSR's pipeline by one level in those few values that lie on a rounding tie:
    there BasicSR's own result depends on the order in which its BLAS library adds.
    """
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"imresize takes a non-empty image of shape (h, w) or (h, w, c), not {image.shape}")
    height, width = image.shape[:2]
    if size is not None and scale is None:
        out_height, out_width = size
        if out_height < 1 or out_width < 1:
            raise ValueError(f"imresize cannot make an image of size {size}: both sides must be at least 1")
        scale_height, scale_width = out_height / height, out_width / width
    elif scale is not None and size is None:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"imresize takes a positive, finite scale, not {scale}")
        out_height, out_width = math.ceil(height * scale), math.ceil(width * scale)
        scale_height = scale_width = scale
    else:
        raise ValueError("imresize takes either scale or size, and not both")

    if image.dtype in (np.uint8, np.uint16):
        top = float(np.iinfo(image.dtype).max)
        values: _FloatArray = image.astype(np.float32) / np.float32(top)
    elif image.dtype in (np.float32, np.float64):
        values = image
    else:
        raise TypeError(f"imresize takes uint8, uint16, float32 or float64 images, not {image.dtype}")

    planes = values.reshape(height, width, -1)
    rows = _resize_rows(planes, out_height, scale_height, antialiasing)
    columns = np.ascontiguousarray(rows.swapaxes(0, 1))
    result: NDArray[Any] = _resize_rows(columns, out_width, scale_width, antialiasing).swapaxes(0, 1)
    result = np.ascontiguousarray(result).reshape(out_height, out_width, *image.shape[2:])
    if image.dtype.kind == "u":
        result = np.rint(np.clip(result, 0, 1) * np.float32(top)).astype(image.dtype)
    return result


def _resize_rows(values: _FloatArray, out_length: int, scale: float, antialiasing: bool) -> _FloatArray:
    """Resize a (rows, n, c) array along its first axis to `out_length` rows."""
    in_length = values.shape[0]
    weights, indices = _taps(in_length, out_length, scale, antialiasing)
    flat = values.reshape(in_length, -1)
    result = np.empty((out_length, flat.shape[1]), dtype=values.dtype)
    step = max(1, BLOCK_VALUES // flat.shape[1])
    for start in range(0, out_length, step):
        block = slice(start, start + step)
        total = result[block]
        np.multiply(flat[indices[0, block]], weights[0, block, None], out=total)
        for index, weight in zip(indices[1:], weights[1:], strict=True):
            total += flat[index[block]] * weight[block, None]
    return result.reshape(out_length, *values.shape[1:])


@lru_cache(maxsize=64)
def _taps(
    in_length: int, out_length: int, scale: float, antialiasing: bool
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Weights and source rows, both of shape (taps, out_length), of a resize along one axis."""
    stretch = scale if antialiasing and scale < 1 else 1.0
    kernel_width = KERNEL_WIDTH / stretch
    taps = math.ceil(kernel_width)
    # In float32 on purpose: BasicSR computes positions in it, whose error for large images (1e-4 of a pixel)
    # is well above the tolerance to which the two must agree.
    one = np.float32(1)
    position = np.arange(1, out_length + 1, dtype=np.float32)
    center = position / np.float32(scale) + np.float32(0.5 * (1 - 1 / scale))
    left = np.floor(center - np.float32(kernel_width / 2))
    # The row at `left` itself lies at the kernel's outer zero, or beyond.
    rows = left + np.arange(1, taps + 1, dtype=np.float32)[:, None]
    weights = _cubic((center - rows) * (np.float32(scale) if stretch < 1 else one))
    weights /= weights.sum(axis=0)
    # Mirrored border, the border pixel included, for any distance beyond it.
    indices = (rows.astype(np.intp) - 1) % (2 * in_length)
    indices = np.minimum(indices, 2 * in_length - 1 - indices)
    weights.setflags(write=False)
    indices.setflags(write=False)
    return weights, indices


def _cubic(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cubic convolution kernel with a = -0.5, zero from distance 2 on."""
    x = np.abs(x)
    square = x * x
    cube = square * x
    inner = np.float32(1.5) * cube - np.float32(2.5) * square + np.float32(1)
    outer = np.float32(-0.5) * cube + np.float32(2.5) * square - np.float32(4) * x + np.float32(2)
    return np.where(x <= 1, inner, np.where(x <= 2, outer, np.float32(0)))
