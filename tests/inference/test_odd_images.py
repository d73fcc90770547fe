"""Images of kinds that are easily mistaken: each is refused, noted, or as another decoder sees it."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.nearest_runner import Nearest
from helpers.odd_images import HEIGHT, WIDTH, Pixels, avif, chunk, colors, png, saved, tiff
from PIL import Image, ImageCms

from lmlt_arch import Upscaler
from lmlt_arch.data.images import ImageError, decode_image
from lmlt_arch.inference.images import deep
from lmlt_arch.inference.images.color_profiles import CURVES, PRIMARIES, Colors
from lmlt_arch.inference.images.decoding import decode_picture, read_header
from lmlt_arch.inference.images.details import Details
from lmlt_arch.inference.images.encoding import Encoding, details_for, encode_picture, prepared
from lmlt_arch.inference.images.formats import FORMATS, depth_notes
from lmlt_arch.inference.images.picture import Picture
from lmlt_arch.inference.images.streaming import upscale_large

pyvips = pytest.importorskip("pyvips")

HALF = np.full((HEIGHT, WIDTH, 1), 128)


def with_alpha(depth: int, alpha: Pixels = HALF) -> Pixels:
    pixels = colors(depth)
    scaled = alpha / 255 if depth == 32 else alpha * (257 if depth == 16 else 1)
    return np.concatenate([pixels, scaled.astype(pixels.dtype)], -1)


def from_disk(
    data: bytes, folder: Path, suffix: str, format: str | None = None
) -> tuple[Picture, tuple[str, ...]]:
    """What comes out of the way for images larger than memory, at the size of the input."""
    source, target = folder / f"in{suffix}", folder / f"out{suffix}"
    source.write_bytes(data)
    header = read_header(source, "it")
    runner = Nearest(scale=1)
    notes = upscale_large(
        source,
        target,
        Upscaler(runner),
        after=(header.height, header.width),
        format=FORMATS[format or header.format],
        encoding=Encoding(quality=100),
    )
    return decode_picture(target.read_bytes(), "result"), notes


KEPT: dict[str, tuple[bytes, Pixels]] = {
    "gray of 16 bits with a transparent one": (
        png(colors(16)[..., 0], 16, 0, chunk(b"tRNS", struct.pack(">H", int(colors(16)[3, 5, 0])))),
        np.stack([colors(16)[..., 0], np.where(np.arange(WIDTH) == 5, 0, 65535) + 0 * HALF[..., 0]], -1),
    ),
    **{
        f"gray of {bits} bits with a transparent one": (
            png(np.mgrid[:HEIGHT, :WIDTH][1] % 2**bits, bits, 0, chunk(b"tRNS", struct.pack(">H", 1))),
            np.stack(
                [
                    np.mgrid[:HEIGHT, :WIDTH][1] % 2**bits * (255 // (2**bits - 1)),
                    np.where(np.mgrid[:HEIGHT, :WIDTH][1] % 2**bits == 1, 0, 255),
                ],
                -1,
            ),
        )
        for bits in (1, 2, 4)
    },
    "white is zero, 16 bits": (tiff(colors(16)[..., 0], t262=0), 65535 - colors(16)[..., :1]),
    "white is zero, float": (tiff(colors(32)[..., 0], t262=0), 1 - colors(32)[..., :1]),
    **{
        f"straight transparency of {depth} bits": (tiff(with_alpha(depth), t338=2), with_alpha(depth))
        for depth in (8, 16, 32)
    },
    **{
        f"premultiplied transparency of {depth} bits": (
            tiff(
                np.concatenate([colors(depth) // 2, with_alpha(depth)[..., 3:]], -1).astype(
                    colors(depth).dtype
                ),
                t338=1,
            ),
            np.concatenate([colors(depth) // 2 * (255 / 128), with_alpha(depth)[..., 3:]], -1),
        )
        for depth in (8, 16)
    },
    **{
        f"{count} channels of no meaning, {depth} bits": (
            tiff(
                np.concatenate([colors(depth)] + [with_alpha(depth)[..., 3:]] * count, -1), t338=[0] * count
            ),
            colors(depth),
        )
        for depth in (8, 16, 32)
        for count in (1, 2)
    },
    "gray with a channel of no meaning": (
        tiff(np.stack([colors(8)[..., 0], HALF[..., 0].astype(np.uint8)], -1), t338=0),
        colors(8)[..., :1],
    ),
    "no meaning, then transparency": (
        tiff(
            np.concatenate([colors(16), with_alpha(16)[..., 3:] // 3, with_alpha(16)[..., 3:]], -1),
            t338=[0, 2],
        ),
        with_alpha(16),
    ),
}


@pytest.mark.parametrize("kind", KEPT)
def test_channels_are_what_the_file_says(kind: str, tmp_path: Path) -> None:
    data, expected = KEPT[kind]
    got = decode_picture(data, "it")
    # Premultiplied 8 bits lose half a step.
    tolerance = {1: 2, 2: 2, 4: 1e-6}[got.color.itemsize]
    np.testing.assert_allclose(got.pixels().astype(float), expected, atol=tolerance)
    assert ("of no stated meaning" in "".join(got.details.notes)) == ("no meaning" in kind)
    through, notes = from_disk(data, tmp_path, ".png" if data.startswith(b"\x89") else ".tif")
    seen = got.alpha > 0 if got.alpha is not None else np.ones(got.size, bool)
    np.testing.assert_allclose(
        through.pixels()[seen].astype(float), got.pixels()[seen].astype(float), atol=tolerance
    )
    assert notes == got.details.notes


def test_two_decoders_agree() -> None:
    """Of every kind that both know."""
    for data in [data for data, _ in KEPT.values()] + [tiff(colors(8)), png(colors(8), 8, 2)]:
        header = read_header(data, "it")
        if header.deep or (header.tiff and header.tiff.unknown) or b"\x52\x01" in data[:140]:
            continue
        other = pyvips.Image.new_from_buffer(data, "").numpy()
        np.testing.assert_array_equal(decode_picture(data, "it").pixels(), other.reshape(HEIGHT, WIDTH, -1))


def zstd(image: Image.Image) -> bytes:
    return saved(image, "TIFF", compression="zstd")


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


def test_slightly_outside_is_noted(tmp_path: Path) -> None:
    data = tiff((colors(32) * 1.05 - 0.02).astype(np.float32))
    assert "are clipped to 0..1" in decode_picture(data, "it").details.notes[0]
    assert decode_picture(data, "it").color.min() == 0
    assert "are clipped to 0..1" in from_disk(data, tmp_path, ".tif")[1][0]


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


def in_srgb(picture: Picture) -> Pixels:
    """As a program that heeds profiles shows it."""
    image = Image.fromarray(picture.color.squeeze())
    if picture.details.icc is None:
        return np.asarray(image)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.details.icc))
    assert str(profile.profile.version) == "4.3"
    mode = "RGB" if picture.color.shape[2] == 3 else "L"
    shown = ImageCms.profileToProfile(
        image, profile, ImageCms.createProfile("sRGB"), renderingIntent=1, outputMode="RGB"
    )
    return np.asarray(shown if mode == "RGB" else shown.convert("L"))


def light(stored: Pixels, curve: tuple[float, ...]) -> Pixels:
    if len(curve) == 1:
        return stored ** curve[0]
    g, a, b, c, d = curve
    return np.where(stored >= d, (a * stored + b) ** g, c * stored)


def expected_srgb(stored: Pixels, primaries: int, curve: tuple[float, ...]) -> Pixels:
    """By matrices, without profiles; white is D65 on both sides."""

    def to_xyz(number: int) -> Pixels:
        *points, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in PRIMARIES[number])
        matrix = np.stack(points, 1)
        return matrix * np.linalg.solve(matrix, white)

    linear = light(stored / 255, curve) @ (np.linalg.inv(to_xyz(1)) @ to_xyz(primaries)).T
    linear = linear.clip(0, 1)
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return shown * 255


def muted() -> Pixels:
    """Colors that all spaces have."""
    return (colors(8) // 4 + 90).astype(np.uint8)


def gamma(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def chromaticities(number: int) -> bytes:
    red, green, blue, white = PRIMARIES[number]
    return chunk(b"cHRM", struct.pack(">8I", *(round(v * 1e5) for v in (*white, *red, *green, *blue))))


@pytest.mark.parametrize(
    ("extra", "primaries", "curve"),
    [
        (chunk(b"cICP", bytes([12, 13, 0, 1])), 12, CURVES[13]),
        (chunk(b"cICP", bytes([9, 1, 0, 1])), 9, CURVES[1]),
        (chunk(b"cICP", bytes([1, 8, 0, 1])), 1, (1.0,)),
        (chunk(b"cICP", bytes([9, 13, 0, 1])) + chunk(b"sRGB", b"\0"), 9, CURVES[13]),
        (gamma(100000), 1, (1.0,)),
        (gamma(55556) + chromaticities(9), 9, (1.8,)),
        (chromaticities(12), 12, CURVES[13]),
        (chunk(b"cICP", bytes([1, 13, 0, 1])), 1, CURVES[13]),
        (gamma(45455) + chromaticities(1), 1, CURVES[13]),
        (chunk(b"sRGB", b"\0") + gamma(100000), 1, CURVES[13]),
        (gamma(0) + chunk(b"cHRM", bytes(32)), 1, CURVES[13]),
    ],
)
def test_colors_described_by_numbers(
    extra: bytes, primaries: int, curve: tuple[float, ...], tmp_path: Path
) -> None:
    data = png(muted(), 8, 2, extra)
    picture = decode_picture(data, "it")
    assert (picture.details.icc is None) == ((primaries, curve) == (1, CURVES[13]))
    expected = expected_srgb(muted(), primaries, curve)
    assert np.abs(in_srgb(picture).astype(float) - expected).max() < 2.5
    for name in ("png", "jpg", "webp", "tiff", "avif"):
        written = decode_picture(encode_picture(picture, FORMATS[name]), "it")
        assert written.details.icc == picture.details.icc
    assert from_disk(data, tmp_path, ".png")[0].details.icc == picture.details.icc
    lost = [note for note in details_for(picture, FORMATS["bmp"]).notes if "profile" in note]
    assert bool(lost) == (picture.details.icc is not None)


def test_gray_has_a_curve_of_its_own() -> None:
    picture = decode_picture(png(muted()[..., 0], 8, 0, gamma(100000)), "it")
    expected = expected_srgb(np.repeat(muted()[..., :1], 3, 2), 1, (1.0,))[..., 0]
    assert np.abs(in_srgb(picture).astype(float) - expected).max() < 2.5


def test_colors_of_avif() -> None:
    assert decode_picture(avif(1, 13), "it").details.icc is None
    assert decode_picture(avif(2, 2), "it").details.icc is None
    assert decode_picture(avif(12, 13), "it").details.icc == Colors(PRIMARIES[12]).profile(gray=False)


@pytest.mark.parametrize("bits", [10, 12])
def test_bits_of_avif_stay(bits: int, tmp_path: Path) -> None:
    picture = Picture(colors(16), bits=bits)
    data = encode_picture(picture, FORMATS["avif"], 100)
    assert pyvips.Image.new_from_buffer(data, "").get("bits-per-sample") == bits
    again = decode_picture(data, "it")
    assert (again.depth, again.bits) == (16, bits)
    assert np.abs(again.color.astype(int) - picture.color).max() < 3 * 2 ** (16 - bits)
    white = decode_picture(encode_picture(Picture(0 * colors(16) + 65535, bits=bits), FORMATS["avif"]), "it")
    assert white.color.min() >= 65535 - 2 ** (16 - bits), "white is white, but for what is lost"
    through, _ = from_disk(data, tmp_path, ".avif")
    assert through.bits == bits
    assert np.abs(through.color.astype(int) - again.color).max() < 3 * 2 ** (16 - bits)
    sixteen = decode_picture(encode_picture(again, FORMATS["png"]), "it")
    np.testing.assert_array_equal(sixteen.color, again.color)


GRAY = Colors().profile(gray=True)
SRGB = Colors().profile(gray=False)


def with_thumbnail(pixels: Pixels) -> bytes:
    """A TIFF of two pages, of which the second is called a smaller copy of the first."""
    kinds = [struct.pack("<HHLL", 254, 4, 1, number) for number in (2, 0, 1)]
    data = tiff(pixels, pages=2, t254=2).replace(struct.pack("<HHLHH", 254, 3, 1, 2, 0), kinds[0])
    first, _, second = data.partition(kinds[0])
    return first + kinds[1] + second.replace(kinds[0], kinds[2], 1)


def raw_profile(kind: str, data: bytes) -> bytes:
    """As ImageMagick writes them."""
    text = f"\n{kind}\n{len(data):8}\n{data.hex()}\n"
    return chunk(b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text.encode()))


def exif_that_cannot_be_written() -> bytes:
    """The width is a word."""
    return b"Exif\0\0II*\0" + struct.pack("<LHHHL4sL", 8, 1, 256, 2, 4, b"abc\0", 0)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            saved(Image.fromarray(colors(8)), "JPEG", exif=exif_that_cannot_be_written()),
            "EXIF data are damaged",
        ),
        (
            png(colors(8), 8, 2, chunk(b"iCCP", b"x\0\0" + zlib.compress(b"nonsense" * 20))),
            "profile is damaged",
        ),
        (png(colors(8), 8, 2, chunk(b"cHRM", struct.pack(">8I", *[30000] * 8))), "description of colors"),
        *(
            (png(colors(8), 8, 2, data), "beside its pixels is damaged")
            for data in (
                chunk(b"zTXt", b"Long\0\0not compressed"),
                chunk(b"gAMA", b"\0\1"),
                chunk(b"cICP", b"\1\1\0"),
                chunk(b"cHRM", bytes(31)),
                chunk(b"pHYs", bytes(9))[:-1] + b"?",
                chunk(b"tEXt", b"Title\0hello")[:-1] + b"?",
                chunk(b"gAMA", struct.pack(">I", 100000))[:-1] + b"?",
            )
        ),
        (png(colors(8), 8, 2, raw_profile("iptc", b"x")), "IPTC"),
        (tiff(colors(8), t33723=1), "IPTC"),
        (tiff(colors(8), t301=[1, 2, 3]), "calibration"),
        (tiff(colors(8), t34675=[1] * 99), "profile is damaged"),
        (tiff(colors(8), t33550=[1, 1], t34735=[1] * 8, t65000=1), "other kinds are left out (33550"),
        (tiff(colors(8), t37724=1), "IPTC"),
        *((with_thumbnail(colors(depth)), "smaller copies or masks") for depth in (8, 16, 32)),
        (tiff(colors(8), t34675=1, t282=[3, 3], t283=3), "profile is damaged"),
        (saved(Image.fromarray(colors(8)), "TIFF", icc_profile=GRAY), "for GRAY, which the image is not"),
        (saved(Image.fromarray(colors(8)), "JPEG", icc_profile=GRAY), "for GRAY, which the image is not"),
        (
            saved(Image.fromarray(colors(8)[..., 0]), "PNG", icc_profile=SRGB),
            "for RGB, which the image is not",
        ),
        (
            saved(Image.fromarray(colors(8)[..., 0]), "JPEG", icc_profile=SRGB),
            "for RGB, which the image is not",
        ),
    ],
)
def test_pixels_never_fail_for_what_is_beside_them(data: bytes, says: str | None, tmp_path: Path) -> None:
    picture = decode_picture(data, "it")
    assert picture.size == (HEIGHT, WIDTH)
    assert [says in note for note in picture.details.notes] == [True] if says else not picture.details.notes
    suffix = {b"\xff": ".jpg", b"\x89": ".png"}.get(data[:1], ".tif")
    assert from_disk(data, tmp_path, suffix)[1] == picture.details.notes


def test_details_that_are_too_large_for_jpeg() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 70_000
    picture = decode_picture(saved(Image.fromarray(colors(8)), "WEBP", exif=exif, xmp=b"x" * 70_000), "it")
    notes = details_for(picture, FORMATS["jpg"]).notes
    assert [word in note for word, note in zip(("EXIF", "XMP"), notes, strict=True)] == [True, True]
    assert decode_picture(encode_picture(picture, FORMATS["jpg"]), "it").details.exif is None


def test_fewer_bits_are_noted(tmp_path: Path) -> None:
    (tmp_path / "in.tif").write_bytes(tiff(colors(32)))
    settings: dict[str, Any] = {"after": (HEIGHT, WIDTH), "encoding": Encoding()}
    for name, says in (
        ("png", "its float values become 16 bits: PNG"),
        ("jpg", "become 8 bits"),
        ("tiff", None),
    ):
        upscaler, target = Upscaler(Nearest(scale=1)), tmp_path / f"out.{name}"
        notes = upscale_large(tmp_path / "in.tif", target, upscaler, format=FORMATS[name], **settings)
        assert [says in note for note in notes] == [True] if says else notes == ()
    assert depth_notes(FORMATS["jpg"], 8, 16) == [], "as asked for"


def test_texts_of_png(tmp_path: Path) -> None:
    chunks = (
        chunk(b"tEXt", b"Title\0hello"),
        chunk(b"zTXt", b"Long\0\0" + zlib.compress(b"x" * 999)),
        chunk(b"iTXt", b"Other\0\0\0de\0t\0" + "Grün".encode()),
    )
    expected = (("Title", "hello"), ("Long", "x" * 999), ("Other", "Grün"))
    for bits in (8, 16):
        data = png(colors(bits), bits, 2, *chunks)
        picture = decode_picture(data, "it")
        assert picture.details.texts == expected
        assert decode_picture(encode_picture(picture, FORMATS["png"]), "it").details.texts == expected
        assert from_disk(data, tmp_path, ".png")[0].details.texts == expected


def test_resolution_is_only_what_the_file_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    for data, suffix in (
        (saved(Image.fromarray(colors(8)), "JPEG", exif=exif), ".jpg"),
        (tiff(colors(32)), ".tif"),
        (png(colors(16), 16, 2), ".png"),
        (saved(Image.fromarray(colors(8)), "BMP", dpi=(0, 0)), ".bmp"),
    ):
        assert decode_picture(data, "it").details.dpi is None
        if suffix in (".tif", ".png"):
            assert from_disk(data, tmp_path, suffix)[0].details.dpi is None


def test_an_opaque_picture_is_not_transparent(tmp_path: Path) -> None:
    opaque = with_alpha(8, np.full_like(HALF, 255))
    picture = decode_picture(saved(Image.fromarray(opaque), "PNG"), "it")
    assert picture.alpha is not None
    assert prepared(picture, FORMATS["png"], Encoding(), "it").alpha is not None
    assert prepared(picture, FORMATS["jpg"], Encoding(), "it").alpha is None
    deep = Picture(colors(32), alpha=np.ones((HEIGHT, WIDTH), np.float32))
    assert prepared(deep, FORMATS["jpg"], Encoding(), "it").alpha is None
    with pytest.raises(ImageError, match="transparent, which JPEG"):
        prepared(replace(deep, alpha=deep.alpha * 0.99), FORMATS["jpg"], Encoding(), "it")
    Image.fromarray(opaque).save(tmp_path / "in.png")
    upscale_large(
        tmp_path / "in.png",
        tmp_path / "out.jpg",
        Upscaler(Nearest(scale=1)),
        after=(HEIGHT, WIDTH),
        format=FORMATS["jpg"],
        encoding=Encoding(quality=100),
    )
    assert Image.open(tmp_path / "out.jpg").mode == "RGB"


class Wild(Nearest):
    """A network that has met something it does not know."""

    def __call__(self, lq: Any) -> Any:
        return super().__call__(lq) * 9 - 3


def test_values_far_outside_are_noted(tmp_path: Path) -> None:
    said: list[str] = []
    upscaler = Upscaler(Wild(), notice=said.append)
    upscaler(colors(8))
    assert "far outside of 0 to 1" in said[0]
    Image.fromarray(colors(8)).save(tmp_path / "in.png")
    notes = upscale_large(
        tmp_path / "in.png",
        tmp_path / "out.png",
        upscaler,
        after=(2 * HEIGHT, 2 * WIDTH),
        format=FORMATS["png"],
        encoding=Encoding(),
    )
    assert said == list(notes)
    Upscaler(Nearest(), notice=said.append)(colors(8))
    assert len(said) == 1


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_it_says(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(colors(8)), "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    expected = pyvips.Image.new_from_buffer(data, "").numpy().astype(int)
    picture = decode_picture(data, "it")
    header = read_header(data, "it")
    assert picture.size == (header.height, header.width) == expected.shape[:2]
    assert np.abs(picture.color - expected).max() < 4
    assert np.abs(from_disk(data, tmp_path, ".avif")[0].color - expected).max() < 6


@pytest.mark.parametrize("depth", [8, 16, 32])
@pytest.mark.parametrize("order", ["<", ">"])
def test_large_tiff_of_either_order(order: str, depth: int, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=True, byteorder=order) as writer:
        pixels = colors(depth)
        writer.write(pixels.astype(pixels.dtype.newbyteorder(order)), photometric="rgb", metadata=None)
    np.testing.assert_array_equal(decode_picture(file.getvalue(), "it").color, pixels)
    np.testing.assert_array_equal(from_disk(file.getvalue(), tmp_path, ".tif")[0].color, pixels)


def test_colors_that_one_decoder_mistakes(tmp_path: Path) -> None:
    """libvips takes YCbCr for RGB, unless they are JPEG, and does not know this Lab."""
    stored = np.asarray(Image.fromarray(muted()).convert("YCbCr"))
    data = tiff(stored, t262=6, t530=[1, 1])
    assert np.abs(decode_picture(data, "it").color.astype(int) - muted()).max() < 5
    lab = tiff(colors(8), t262=8)
    assert decode_picture(lab, "it").color.shape == colors(8).shape
    for other in (data, lab):
        with pytest.raises(ImageError, match=r"Lab or YCbCr colors, which .*: convert it to RGB"):
            from_disk(other, tmp_path, ".tif")
    jpeg = saved(Image.fromarray(muted()), "TIFF", compression="jpeg")
    np.testing.assert_array_equal(
        from_disk(jpeg, tmp_path, ".tif")[0].color, decode_picture(jpeg, "it").color
    )


def test_premultiplied_avif(tmp_path: Path) -> None:
    pixels = with_alpha(8)
    data = saved(Image.fromarray(pixels), "AVIF", quality=100, subsampling="4:4:4", alpha_premultiplied=True)
    assert read_header(data, "it").premultiplied
    assert np.abs(decode_picture(data, "it").pixels().astype(int) - pixels).max() < 12
    assert np.abs(from_disk(data, tmp_path, ".avif")[0].pixels().astype(int) - pixels).max() < 12
    half = replace(Picture(colors(16) // 2), alpha=with_alpha(16)[..., 3], bits=10)
    found = deep.decode(encode_picture(half, FORMATS["avif"], 100), "it", bits=10, premultiplied=True)
    assert np.abs(found.astype(int) - with_alpha(16)).max() < 12 * 257


def segment(marker: int, data: bytes) -> bytes:
    """Of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def test_comments_of_jpeg(tmp_path: Path) -> None:
    jpeg = saved(Image.fromarray(colors(8)), "JPEG")
    twice = jpeg[:2] + segment(0xFE, b"one") + segment(0xFE, b"two") + jpeg[2:]
    assert decode_picture(twice, "it").details.texts == (("Comment", "one"), ("Comment", "two"))
    for data, suffix, kept in (
        (twice, ".jpg", "one"),
        (png(colors(8), 8, 2, chunk(b"tEXt", b"Comment\0" + b"x" * 99_999)), ".png", None),
        (png(colors(8), 8, 2, chunk(b"tEXt", b"Comment\0" + b"x")), ".png", "x"),
    ):
        picture = decode_picture(data, "it")
        written = decode_picture(encode_picture(picture, FORMATS["jpg"]), "it").details.texts
        assert written == ((("Comment", kept),) if kept else ())
        notes = details_for(picture, FORMATS["jpg"]).notes
        assert any("texts are left out" in note for note in notes) == (written != picture.details.texts)
        # The encoder of large files writes none.
        assert "texts are left out" in "".join(from_disk(data, tmp_path, suffix, "jpg")[1])
    extended = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40))
    notes = decode_picture(jpeg[:2] + extended + jpeg[2:], "it").details.notes
    assert notes == ("the extension of its XMP data is left out",)


def test_keywords_in_another_character_set(tmp_path: Path) -> None:
    data = png(colors(8), 8, 2, chunk(b"tEXt", "Größe".encode("latin-1") + b"\0value"))
    assert from_disk(data, tmp_path, ".png")[0].details.texts == (("Größe", "value"),)


def test_kinds_that_only_memory_holds_are_refused_before_the_work(tmp_path: Path) -> None:
    bmp = saved(Image.fromarray(colors(8)), "BMP")
    with pytest.raises(ImageError, match=r"in.bmp is too large .* bmp can be read: convert it"):
        from_disk(bmp, tmp_path, ".bmp", "png")
    with pytest.raises(ImageError, match=r"in.png is too large .* BMP can be written: choose --format png"):
        from_disk(png(colors(8), 8, 2), tmp_path, ".png", "bmp")


def test_png_keeps_what_pillow_refuses(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    profile = bytearray(SRGB + bytes(2_000_000))
    profile[:4] = struct.pack(">I", len(profile))
    data = png(
        colors(8),
        8,
        2,
        chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(profile))),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * 2_000_000)),
        raw_profile("exif", exif.tobytes()),
    )
    details = decode_picture(data, "it").details
    assert details.icc == profile
    assert details.xmp == b"x" * 2_000_000
    assert b"Maker" in (details.exif or b"")
    assert details.notes == ()
    assert from_disk(data, tmp_path, ".png")[0].details.icc == profile


def test_what_follows_the_end_of_a_png_is_none_of_it() -> None:
    behind = gamma(100000) + chunk(b"tEXt", b"Title\0hello")
    details = decode_picture(png(colors(8), 8, 2) + behind, "it").details
    assert (details.icc, details.texts) == (None, ())


def test_texts_that_expand_to_very_much() -> None:
    bombs = chunk(b"zTXt", b"L\0\0" + zlib.compress(bytes(2**24))) * 6
    details = decode_picture(png(colors(8), 8, 2, bombs), "it").details
    assert sum(len(text) for _, text in details.texts) <= 2**26
    assert "too large" in details.notes[0]


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


def bmp(space: bytes, rest: bytes = bytes(64)) -> bytes:
    """A BMP of version 5 that says so of its colors."""
    pixels = colors(8)[::-1, :, ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, WIDTH, HEIGHT, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(16) + space
    header += rest[:48] + struct.pack("<IIII", 4, 124 + len(pixels), len(SRGB), 0)
    return b"BM" + struct.pack("<III", 138 + len(pixels) + len(SRGB), 0, 138) + header + pixels + SRGB


def test_colors_of_bmp() -> None:
    embedded = decode_picture(bmp(b"DEBM"), "it")
    np.testing.assert_array_equal(embedded.color, colors(8))
    assert (embedded.details.icc, embedded.details.notes) == (SRGB, ())
    damaged = decode_picture(bmp(b"DEBM")[:-500], "it").details
    assert (damaged.icc, damaged.notes) == (None, ("its color profile is damaged and left out",))
    for space, rest, noted in (
        (b"BGRs", b"x" * 64, False),
        (bytes(4), bytes(64), False),
        (bytes(4), b"x" * 64, True),
        (b"KNIL", bytes(64), True),
    ):
        details = decode_picture(bmp(space, rest), "it").details
        assert details.icc is None
        assert ["calibration" in note for note in details.notes] == [True] * noted


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


def test_descriptions_of_a_layout_are_not_kept() -> None:
    """They would say the old size."""
    tifffile = pytest.importorskip("tifffile")
    for options in ({}, {"ome": True}, {"imagej": True}):
        file = io.BytesIO()
        tifffile.imwrite(file, colors(8), photometric="rgb", **options)
        exif = decode_picture(file.getvalue(), "it").details.exif or b""
        assert not any(word in exif for word in (b"shape", b"ImageJ", b"OME"))
    file = io.BytesIO()
    tifffile.imwrite(file, colors(8), photometric="rgb", description="A house", metadata=None)
    assert b"A house" in (decode_picture(file.getvalue(), "it").details.exif or b"")


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_profiles_of_gray_stay(format: str, depth: int) -> None:
    for alpha in (None, with_alpha(depth)[..., 3]):
        picture = replace(Picture(colors(depth)[..., :1], alpha=alpha), details=Details(icc=GRAY))
        again = decode_picture(encode_picture(picture, FORMATS[format]), "it")
        assert (again.details.icc, again.details.notes) == (GRAY, ())


@pytest.mark.parametrize("form", [b'tiff:Orientation="%d"', b"<tiff:Orientation>%d</tiff:Orientation>"])
def test_xmp_turns_nothing_twice(form: bytes, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(colors(8)), "JPEG", exif=exif, xmp=b"<x>" + form % 6 + b"</x>")
    through = from_disk(data, tmp_path, ".jpg")[0]
    memory = decode_picture(encode_picture(decode_picture(data, "it"), FORMATS["jpg"]), "it")
    for picture in (through, memory):
        assert picture.size == (WIDTH, HEIGHT)
        assert picture.details.xmp == b"<x>" + form % 1 + b"</x>"


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
