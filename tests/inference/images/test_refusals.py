"""Damaged images and those of unsupported kinds are refused, with the reason."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.odd_images import (
    HEIGHT,
    WIDTH,
    avif,
    bmp,
    chunk,
    colors,
    from_disk,
    png,
    saved,
    tiff,
    zstd,
)
from PIL import Image

from lmlt_arch.data.images import ImageError, decode_image
from lmlt_arch.inference.images.decoding import decode_picture
from lmlt_arch.inference.images.encoding import encode_picture
from lmlt_arch.inference.images.formats import FORMATS
from lmlt_arch.inference.images.picture import Picture

pyvips = pytest.importorskip("pyvips")


def not_numbers(value: float) -> bytes:
    pixels = colors(32)
    pixels[7, 9, 1] = value
    return tiff(pixels)


REFUSED: dict[str, tuple[bytes, str]] = {
    "zstd, 16 bits": (
        zstd(Image.fromarray(colors(16)[..., 0])),
        "of a kind that is not supported here .*ZSTD.*another compression",
    ),
    **{
        f"cut, {depth} bits, {cut}": (tiff(colors(depth), cut=cut), "damaged: it is cut short")
        for depth in (8, 16, 32)
        for cut in (0.5, 0.66, 0.99)
    },
    "too few bytes": (tiff(colors(16), t279=100), "damaged: it holds 100 of 3,840 bytes"),
    "too few strips": (tiff(colors(16), t278=4), "damaged: it is cut short"),
    **{
        f"{pages} pages, {depth} bits": (tiff(colors(depth), pages=pages), f"{pages} frames: split")
        for depth in (8, 16, 32)
        for pages in (2, 3)
    },
    "double": (tiff(colors(32).astype(np.float64)), "64 floating-point bits: convert it to gray or RGB"),
    "signed": (tiff(colors(16).astype(np.int16)), "16 signed bits"),
    "32 bits": (tiff(colors(16).astype(np.uint32)), "32 unsigned bits"),
    "a palette of 16 bits": (tiff(colors(16)[..., 0], t262=3, t320=[0] * 768), "a palette of 16 bits"),
    "YCbCr of 16 bits": (tiff(colors(16), t262=6, t530=[1, 1]), "YCbCr colors"),
    "subsampled YCbCr": (tiff(colors(8), t262=6, t530=[2, 2]), "subsampled YCbCr colors"),
    "a filter array": (tiff(colors(16)[..., 0], t262=32803), "colors of TIFF's kind 32803"),
    "raw photograph": (tiff(colors(16), t50706=1), "a raw photograph"),
    "0 to 255": (tiff(colors(32) * 255), "values from 0 to .*: black must be 0 and white 1"),
    "elevations": (tiff(colors(32)[..., 0] * 3000 - 400), "values from -400 to"),
    "high dynamic range": (tiff(colors(32) * 4), "values from 0 to"),
    **{f"{value}": (not_numbers(value), "not finite") for value in (np.nan, np.inf, -np.inf)},
    "PQ in AVIF": (avif(9, 16), r"high dynamic range \(PQ\).* convert it to standard"),
    "HLG in AVIF": (avif(9, 18), r"high dynamic range \(HLG\)"),
    "PQ in PNG": (png(colors(16), 16, 2, chunk(b"cICP", bytes([9, 16, 0, 1]))), r"dynamic range \(PQ\)"),
    "narrow range": (
        png(colors(8), 8, 2, chunk(b"cICP", bytes([1, 1, 0, 0]))),
        "unusual kind .*narrow range",
    ),
    "logarithmic": (png(colors(8), 8, 2, chunk(b"cICP", bytes([1, 9, 0, 1]))), "unusual kind"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(99), "is HEIC: convert it to one of png"),
    "JPEG XL": (b"\xff\x0a" + bytes(99), "is JPEG XL: convert"),
    "a video": (b"\0\0\0\x18ftypisom" + bytes(99), "is a video: convert"),
    "a page": (b"<!DOCTYPE html><html>", "is HTML: convert"),
    "OpenEXR": (b"v/1\x01" + bytes(99), "is OpenEXR"),
}


@pytest.mark.parametrize(("data", "says"), REFUSED.values(), ids=REFUSED)
def test_refused_on_both_ways(data: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"^it .*{says}") as caught:
        decode_picture(data, "it")
    assert " object at 0x" not in str(caught.value)
    with pytest.raises(ImageError, match=says):
        from_disk(data, tmp_path, ".tif")
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_errors_of_one_file_are_not_those_of_the_next() -> None:
    bad = saved(Image.fromarray(colors(8)), "PNG")
    deep = bytearray(encode_picture(Picture(colors(16)), FORMATS["png"]))
    deep[80] ^= 1
    for _ in range(2):
        with pytest.raises(ImageError) as first:
            decode_picture(zstd(Image.fromarray(colors(16)[..., 0])), "first")
        with pytest.raises(ImageError) as second:
            decode_picture(bytes(deep), "second")
        assert "ZSTD" in str(first.value)
        assert "ZSTD" not in str(second.value)
        assert len(str(second.value)) < 120
    decode_picture(bad, "whole")


def test_errors_of_one_thread_are_not_those_of_another() -> None:
    deep = bytearray(encode_picture(Picture(colors(16)), FORMATS["png"]))
    deep[80] ^= 1
    kinds = {"PNG": bytes(deep), "ZSTD": zstd(Image.fromarray(colors(16)[..., 0]))}

    def said(kind: str) -> str:
        with pytest.raises(ImageError) as caught:
            decode_picture(kinds[kind], "it")
        return str(caught.value)

    order = ["PNG", "ZSTD"] * 100
    with ThreadPoolExecutor(4) as threads:
        for kind, text in zip(order, threads.map(said, order), strict=True):
            assert ("libpng" in text, "ZSTD" in text) == (kind == "PNG", kind == "ZSTD"), text


@pytest.mark.parametrize("format", ["WEBP", "PNG", "TIFF", "GIF"])
def test_training_refuses_moving_images(format: str) -> None:
    frames = [Image.fromarray(colors(8)), Image.fromarray(255 - colors(8))]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="it has 2 frames: split"):
        decode_image(data, name="it")


def test_training_sees_transparency_of_few_bits() -> None:
    data = png(np.mgrid[:HEIGHT, :WIDTH][1] % 4, 2, 0, chunk(b"tRNS", struct.pack(">H", 1)))
    with pytest.raises(ImageError, match="has transparent pixels"):
        decode_image(data, name="it")


def test_kinds_that_only_memory_holds_are_refused_before_the_work(tmp_path: Path) -> None:
    bmp = saved(Image.fromarray(colors(8)), "BMP")
    with pytest.raises(ImageError, match=r"in.bmp is too large .* bmp can be read: convert it"):
        from_disk(bmp, tmp_path, ".bmp", "png")
    with pytest.raises(ImageError, match=r"in.png is too large .* BMP can be written: choose --format png"):
        from_disk(png(colors(8), 8, 2), tmp_path, ".png", "bmp")


def test_png_with_other_pixels_than_it_says() -> None:
    few = bytearray(png(colors(8)[:10], 8, 2))
    few[8:33] = png(colors(8), 8, 2)[8:33]
    damaged = bytearray(saved(Image.fromarray(colors(8)), "PNG", compress_level=0))
    damaged[-20] ^= 1
    for data, says in (
        (few, "holds 970 of 1,940 bytes of pixels"),
        (damaged, "its pixels are not those"),
        (png(colors(8), 8, 2, chunk(b"CgBI", bytes(4))), r"not supported here \(CgBI\)"),
    ):
        with pytest.raises(ImageError, match=says):
            decode_picture(bytes(data), "it")
    for interlace in (False, True):
        for mode in ("1", "L", "P", "RGB"):
            pixels = np.array(Image.fromarray(colors(8)[:13, :9]).convert(mode).convert("RGB"))
            image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
            options = {"palette": True, "bitdepth": 1} if mode == "1" else {}
            data = image.pngsave_buffer(interlace=interlace, keep="none", **options)
            assert decode_picture(data, "it").size == (13, 9)


def test_what_is_whole_and_not_supported_is_not_called_damaged() -> None:
    jpeg = saved(Image.fromarray(colors(8)), "JPEG")
    for data in (
        bmp(b"BGRs").replace(struct.pack("<HH", 1, 24), struct.pack("<HH", 1, 7), 1),
        jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"),  # 12 bits
        jpeg.replace(b"\xff\xc0", b"\xff\xc3"),  # without loss
        jpeg.replace(b"\xff\xc0", b"\xff\xc5"),  # in steps of size
    ):
        with pytest.raises(ImageError, match="not supported here"):
            decode_picture(data, "it")


@pytest.mark.parametrize("depth", [8, 16, 32])
def test_deflated_tiff_whose_checksum_is_wrong(depth: int, tmp_path: Path) -> None:
    data = bytearray(encode_picture(Picture(colors(depth)), FORMATS["tiff"]))
    with Image.open(io.BytesIO(encode_picture(Picture(colors(8)), FORMATS["tiff"]))) as image:
        assert image.tag_v2[259] in (8, 32946)
    decode_picture(bytes(data), "it")
    start = data.index(b"\x78")
    stream = zlib.decompressobj()
    stream.decompress(bytes(data[start:]))
    data[len(data) - len(stream.unused_data) - 1] ^= 1  # the last byte of the checksum
    with pytest.raises(ImageError, match="not those that were written"):
        decode_picture(bytes(data), "it")
    with pytest.raises(ImageError, match="not those that were written"):
        from_disk(bytes(data), tmp_path, ".tif")
