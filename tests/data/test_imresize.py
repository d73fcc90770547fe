from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from basicsr.utils.matlab_functions import imresize as basicsr_imresize
from numpy.typing import NDArray
from PIL import Image

from lmlt_arch.data import imresize

SHAPES = [(64, 80, 3), (97, 61, 3), (61, 97), (45, 33, 1), (501, 24, 3)]
SCALES = [1 / 2, 1 / 3, 1 / 4, 1 / 8, 0.4, 0.37, 1 / 1.7, 0.9, 1.0, 1.3, 2, 3, 4, 3.7]


# BasicSR's function cannot mirror further than the image is long.
@pytest.mark.parametrize(
    ("shape", "scale"),
    [(shape, scale) for shape in SHAPES for scale in SCALES if min(shape[:2]) * scale >= 5],
)
def test_equals_basicsr_on_floats(shape: tuple[int, ...], scale: float) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    expected = basicsr_imresize(image, scale)
    result = imresize(image, scale)
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < 1e-6


def test_equals_basicsr_far_from_the_origin() -> None:
    """BasicSR's float32 positions are off by 1e-4 of a pixel there; the two must be off together."""
    image = np.random.default_rng(1).random((2046, 16, 3), dtype=np.float32)
    for scale in (1 / 3, 0.37):
        assert np.abs(imresize(image, scale) - basicsr_imresize(image, scale)).max() < 1e-6


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_equals_basicsr_pipeline_on_8_bits(factor: int, photo_arrays: dict[str, NDArray[np.uint8]]) -> None:
    """Equal, but for values on a rounding tie, where BasicSR's depend on its BLAS library."""
    for pixels in photo_arrays.values():
        floats = np.clip(basicsr_imresize(pixels.astype(np.float32) / 255.0, 1 / factor), 0, 1) * 255
        expected = floats.round().astype(np.uint8)
        result = imresize(pixels, 1 / factor)
        assert result.dtype == np.uint8
        differ = result != expected
        assert np.mean(differ) < 1e-3
        assert np.abs(floats - np.floor(floats) - 0.5)[differ].max(initial=0) < 1e-3


def plain_resize(line: NDArray[np.float64], length: int, scale: float) -> NDArray[np.float64]:
    """One axis in float64, written from the definition: a normalized sum over the mirrored line."""
    stretch = min(scale, 1.0)
    result = []
    for k in range(length):
        center = (k + 0.5) / scale - 0.5
        reach = math.ceil(2 / stretch) + 1
        total = weight_sum = 0.0
        for i in range(math.floor(center) - reach, math.floor(center) + reach + 1):
            x = abs(center - i) * stretch
            weight = 0.0
            if x <= 1:
                weight = 1.5 * x**3 - 2.5 * x**2 + 1
            elif x <= 2:
                weight = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            m = i % (2 * len(line))
            total += weight * line[m if m < len(line) else 2 * len(line) - 1 - m]
            weight_sum += weight
        result.append(total / weight_sum)
    return np.array(result)


@pytest.mark.parametrize(
    ("shape", "size"), [((7, 30), (3, 20)), ((1, 5), (1, 2)), ((2, 2), (9, 5)), ((3, 40), (1, 1))]
)
def test_equals_the_definition_at_any_size(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).random(shape)
    rows = np.stack([plain_resize(c, size[0], size[0] / shape[0]) for c in image.T], axis=1)
    expected = np.stack([plain_resize(r, size[1], size[1] / shape[1]) for r in rows])
    assert np.abs(imresize(image, size=size) - expected).max() < 1e-5


def test_without_antialiasing_equals_basicsr() -> None:
    image = np.random.default_rng(3).random((40, 50, 3), dtype=np.float32)
    expected = basicsr_imresize(image, 0.5, antialiasing=False)
    assert np.abs(imresize(image, 0.5, antialiasing=False) - expected).max() < 1e-6
    assert np.abs(imresize(image, 0.5) - expected).max() > 0.1


def test_dtypes() -> None:
    deep = np.random.default_rng(4).integers(0, 65536, (24, 36, 3), dtype=np.uint16)
    floats = np.clip(imresize(deep / 65535, 1 / 3), 0, 1) * 65535
    assert imresize(deep, 1 / 3).dtype == np.uint16
    assert np.abs(imresize(deep, 1 / 3).astype(float) - floats).max() < 0.6
    assert imresize(deep / 65535, 1 / 3).dtype == np.float64


def test_integers_are_clipped_not_wrapped() -> None:
    edge = np.zeros((32, 32), np.uint8)
    edge[:, 16:] = 255
    upscaled = imresize(edge, 2)
    assert imresize(edge.astype(np.float32), 2).max() > 256
    assert upscaled[:, :30].max() == 0
    assert upscaled[:, -30:].min() == 255


def test_input_is_left_alone_and_may_be_a_view() -> None:
    image = np.random.default_rng(5).random((40, 60, 3), dtype=np.float32)
    before = image.copy()
    view = image[::-1, 1:, ::-1]
    assert np.array_equal(imresize(view, 1 / 2), imresize(view.copy(), 1 / 2))
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("error", "words", "args", "kwargs"),
    [
        (ValueError, "shape", (np.zeros(5, np.float32), 0.5), {}),
        (ValueError, "shape", (np.zeros((0, 5), np.float32), 0.5), {}),
        (ValueError, "scale", (np.zeros((5, 5), np.float32), 0), {}),
        (ValueError, "scale", (np.zeros((5, 5), np.float32), math.nan), {}),
        (ValueError, "size", (np.zeros((5, 5), np.float32),), {"size": (0, 5)}),
        (ValueError, "either", (np.zeros((5, 5), np.float32),), {}),
        (ValueError, "either", (np.zeros((5, 5), np.float32), 0.5), {"size": (2, 2)}),
        (TypeError, "int64", (np.zeros((5, 5), np.int64), 0.5), {}),
    ],
)
def test_errors(error: type[Exception], words: str, args: tuple[object], kwargs: dict[str, object]) -> None:
    with pytest.raises(error, match=words):
        imresize(*args, **kwargs)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_set5(factor: int, shared_dir: Path) -> None:
    """The benchmark's LR files, made by an older MATLAB: a rounding after each axis, another border."""
    for path in sorted((shared_dir / "benchmark/Set5/HR").glob("*.png")):
        hr = np.asarray(Image.open(path).convert("RGB"))
        height, width = (side // factor for side in hr.shape[:2])
        lr = imresize(hr[: height * factor, : width * factor], 1 / factor).astype(int)
        given = Image.open(shared_dir / f"benchmark/Set5/LR_bicubic/X{factor}/{path.stem}x{factor}.png")
        difference = np.abs(lr - np.asarray(given.convert("RGB")))
        assert difference.max() <= 7
        assert difference[3:-3, 3:-3].max() <= 2
        assert np.mean(difference > 0) < 0.17
