"""Image files of every kind, written and read again."""

from __future__ import annotations

import io
import itertools
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from lmlt_arch.data.images import ImageError
from lmlt_arch.inference.images.color_profiles import Colors
from lmlt_arch.inference.images.decoding import decode_picture, read_header
from lmlt_arch.inference.images.details import Details
from lmlt_arch.inference.images.encoding import Encoding, details_for, encode_picture, prepared
from lmlt_arch.inference.images.formats import DEPTHS, FORMATS, check_size, depth_for
from lmlt_arch.inference.images.picture import Picture

pyvips = pytest.importorskip("pyvips")

KINDS = [
    (name, depth, channels)
    for name, format in FORMATS.items()
    for depth, channels in itertools.product(format.depths, (1, 2, 3, 4))
    if format.alpha or channels in (1, 3)
]
# These hold no gray: it comes back as three equal channels.
ALWAYS_COLOR = ("webp", "avif")


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def exif() -> bytes:
    data = Image.Exif()
    data[0x010F] = "Maker"
    data.get_ifd(0x8769)[0xA002] = 5
    data.get_ifd(0x8825)[1] = "N"
    return data.tobytes()


def picture(format: str, depth: int, channels: int) -> Picture:
    """Soft colors, so that lossy formats come close."""
    y, x = np.mgrid[:21, :34] / 34
    planes = [y, x, 1 - y, 0.2 + 0.7 * x][: channels if channels > 2 else 1]
    if channels == 2:
        planes.append(0.2 + 0.7 * x)
    values = np.stack(planes, -1)
    most = 1 if depth == 32 else 2**depth - 1
    pixels = (values if depth == 32 else np.rint(values * most)).astype(DEPTHS[depth])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    details = Details(profile if channels > 2 else None, exif(), XMP, (300, 150), (("Comment", "a word"),))
    blank = Picture(pixels, details=details, format=format)
    return blank.with_pixels(pixels)


@pytest.mark.parametrize(("name", "depth", "channels"), KINDS)
def test_round_trip(name: str, depth: int, channels: int) -> None:
    before = picture(name, depth, channels)
    after = decode_picture(encode_picture(before, FORMATS[name], 100), "it")
    assert after.format == name
    expected, got = before.pixels(), after.pixels()
    if name in ALWAYS_COLOR and channels < 3:
        expected = np.concatenate([expected[..., :1]] * 3 + [expected[..., 1:]], -1)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if name in ("jpg", "avif"):
        assert np.abs(got.astype(int) - expected.astype(int)).max() <= (6 if depth == 8 else 48)
    else:
        np.testing.assert_array_equal(got, expected)
    notes = " ".join(details_for(before, FORMATS[name]).notes)
    assert ("EXIF" in notes, "XMP" in notes, "profile" in notes) == (name == "bmp",) * 2 + (
        name == "bmp" and channels > 2,
    )
    assert ("dots per inch" in notes) == (name in ("webp", "avif"))
    assert ("texts" in notes) == (name not in ("png", "jpg"))
    if name != "bmp":
        assert after.details.icc == before.details.icc
        assert after.details.xmp == XMP
        data = Image.Exif()
        data.load(after.details.exif or b"")
        assert data[0x010F] == "Maker"
        assert data.get_ifd(0x8769)[0xA002] == 34, "EXIF data must tell the width of this image"
        assert data.get_ifd(0x8825)[1] == "N"
    if name not in ("webp", "avif"):
        assert after.details.dpi == pytest.approx((300, 150), rel=1e-3)
    if name in ("png", "jpg"):
        assert after.details.texts == before.details.texts
    assert after.details.notes == ()


@pytest.mark.parametrize(("name", "depth", "channels"), KINDS)
def test_nothing_is_invented(name: str, depth: int, channels: int) -> None:
    bare = replace(picture(name, depth, channels), details=Details())
    assert decode_picture(encode_picture(bare, FORMATS[name]), "it").details == Details()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_orientation(orientation: int, deep: bool) -> None:
    plain = Image.fromarray(picture("png", 8, 3).color)
    data = Image.Exif()
    data[0x0112] = orientation
    buffer = io.BytesIO()
    plain.save(buffer, "PNG", exif=data.tobytes())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    content = buffer.getvalue()
    if deep:
        image = pyvips.Image.new_from_array(picture("png", 16, 3).color).copy(interpretation="rgb16")
        image.set_type(pyvips.GValue.blob_type, "exif-data", data.tobytes())
        image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        content = image.pngsave_buffer()
        sixteen = Image.fromarray((picture("png", 16, 3).color >> 8).astype(np.uint8))
        buffer = io.BytesIO()
        sixteen.save(buffer, "PNG", exif=data.tobytes())
        upright = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    header, got = read_header(content, "it"), decode_picture(content, "it")
    assert (header.height, header.width) == got.size == upright.shape[:2]
    np.testing.assert_array_equal(got.color >> 8 if deep else got.color, upright)
    assert got.details.exif is None or b"\x01\x12" not in got.details.exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
def test_orientation_of_tiff(orientation: int, depth: int) -> None:
    """Pillow turns TIFFs by itself, libvips does not."""
    pixels = picture("tiff", depth, 3).color
    data = pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16" if depth == 16 else "srgb").copy()
    data.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    content = data.tiffsave_buffer()
    upright = data.autorot().numpy()
    header, got = read_header(content, "it"), decode_picture(content, "it")
    assert (header.height, header.width) == got.size == upright.shape[:2]
    np.testing.assert_array_equal(got.color, upright)


def test_gray_profiles_stay_with_gray_images() -> None:
    profile = Colors(curve=(1.8,)).profile(gray=True)
    gray = Picture(np.full((4, 4, 1), 9, np.uint8), details=Details(icc=profile))
    assert decode_picture(encode_picture(gray, FORMATS["png"]), "it").details.icc == profile
    assert decode_picture(encode_picture(gray, FORMATS["webp"]), "it").details.icc is None
    assert "profile is left out" in details_for(gray, FORMATS["webp"]).notes[0]


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_palettes_bitmaps_and_cmyk() -> None:
    color = Image.fromarray(picture("png", 8, 3).color)
    palette = color.quantize(64)
    np.testing.assert_array_equal(
        decode_picture(saved(palette, "PNG"), "it").color, np.asarray(palette.convert("RGB"))
    )
    clear = decode_picture(saved(palette, "PNG", transparency=palette.getpixel((3, 4))), "it")
    assert clear.alpha is not None
    assert clear.alpha[4, 3] == 0
    assert clear.alpha.max() == 255
    bits = decode_picture(saved(color.convert("1"), "PNG"), "it").color
    assert bits.shape[2] == 1
    assert {*np.unique(bits)} == {0, 255}
    ink = decode_picture(saved(color.convert("CMYK"), "JPEG", quality=100), "it")
    assert np.abs(ink.color.astype(int) - np.asarray(color)).mean() < 4


def png_header(width: int, height: int) -> bytes:
    """A PNG of the given size that holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def animated(format: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    return saved(frames[0], format, save_all=True, append_images=frames[1:])


def not_finite() -> bytes:
    pixels = picture("tiff", 32, 3).color.copy()
    pixels[3, 4] = np.nan
    return encode_picture(Picture(pixels), FORMATS["tiff"])


def damaged() -> dict[str, tuple[bytes, str]]:
    noise = os.urandom
    whole = {name: encode_picture(picture(name, 8, 3), FORMATS[name]) for name in FORMATS}
    deep = encode_picture(picture("png", 16, 3), FORMATS["png"])
    cases = {f"half a {name}": (data[: len(data) // 2], r"damaged") for name, data in whole.items()}
    cases |= {f"ten bytes of a {name}": (data[:10], "damaged|not an image") for name, data in whole.items()}
    cases["half a 16-bit png"] = (deep[: len(deep) // 2], "damaged")
    cases["half a float tiff"] = (encode_picture(picture("tiff", 32, 4), FORMATS["tiff"])[:500], "damaged")
    cases["noise"] = (noise(5000), "not an image")
    cases["text"] = (b"hello " * 100, "not an image")
    cases["zeros"] = (bytes(4096), "not an image")
    cases["a tiff's first bytes and noise"] = (b"II*\0" + noise(500), "damaged|not an image")
    cases["a huge header"] = (png_header(60_000, 60_000), "60000 x 60000 pixels, more than .* --max-pixels")
    cases["no pixels"] = (png_header(50, 50), "damaged")
    cases["moving png"] = (animated("PNG"), "2 frames")
    cases["moving webp"] = (animated("WEBP"), "2 frames")
    cases["pages"] = (animated("TIFF"), "2 frames")
    cases["gif"] = (saved(Image.new("L", (5, 5)), "GIF"), "is GIF: convert it to one of png, jpg")
    cases["not finite"] = (not_finite(), "not finite")
    return cases


@pytest.mark.parametrize(("data", "says"), damaged().values(), ids=damaged())
def test_what_cannot_be_read(data: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as the command does
    with pytest.raises(ImageError, match=f"^it .*({says})") as caught:
        decode_picture(data, "it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("bands", "interpretation"), [(4, "cmyk"), (3, "lab")])
def test_deep_channels_that_are_not_rgb(bands: int, interpretation: str) -> None:
    image = pyvips.Image.black(9, 8, bands=bands).copy(interpretation=interpretation)
    data = image.cast("ushort" if interpretation == "cmyk" else "float").tiffsave_buffer()
    with pytest.raises(ImageError, match=rf"\({interpretation}\): convert it to gray or RGB"):
        decode_picture(data, "it")


def test_a_limit_can_be_raised() -> None:
    data = encode_picture(picture("png", 8, 3), FORMATS["png"])
    with pytest.raises(ImageError, match="34 x 21 pixels, more than the 713 allowed"):
        decode_picture(data, "it", max_pixels=713)
    decode_picture(data, "it", max_pixels=714)


def test_formats_that_cannot_hold_it() -> None:
    transparent = picture("png", 8, 4)
    with pytest.raises(ImageError, match="transparent, which JPEG cannot hold"):
        prepared(transparent, FORMATS["jpg"], Encoding(), "it")
    with pytest.raises(ImageError, match="70000 x 5 pixels; WEBP holds at most 16383"):
        check_size((5, 70000), FORMATS["webp"], "it")
    with pytest.raises(ImageError, match="JPEG holds 8 bits"):
        depth_for(FORMATS["jpg"], 16, 8)
    assert depth_for(FORMATS["jpg"], None, 16) == 8
    assert depth_for(FORMATS["tiff"], None, 16) == 16
    assert depth_for(FORMATS["png"], None, 32) == 16


@pytest.mark.parametrize("depth", [8, 16, 32])
def test_background(depth: int) -> None:
    pixels = picture("tiff", depth, 4).pixels().copy()
    most = 1 if depth == 32 else 2**depth - 1
    pixels[0, 0, 3], pixels[0, 1, 3] = 0, most
    base = Picture(pixels).with_pixels(pixels)
    result = prepared(base, FORMATS["png"], Encoding(background=(255, 0, 51)), "it")
    assert result.alpha is None
    np.testing.assert_allclose(result.color[0, 0] / most, [1, 0, 0.2], atol=1e-6)
    np.testing.assert_array_equal(result.color[0, 1], pixels[0, 1, :3])


def test_files_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    for name, says in (("missing.png", "No such file"), ("empty.png", "is empty"), ("", "Is a directory")):
        with pytest.raises(ImageError, match=says):
            read_header(tmp_path / name, str(tmp_path / name))
