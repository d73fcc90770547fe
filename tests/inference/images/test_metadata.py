"""Metadata are kept or noted, and damaged ones are no reason to refuse the pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from helpers.odd_images import (
    GRAY,
    HEIGHT,
    SRGB,
    WIDTH,
    Pixels,
    chunk,
    colors,
    from_disk,
    gamma,
    png,
    saved,
    segment,
    tiff,
)
from PIL import Image

from lmlt_arch.inference.images.decoding import decode_picture
from lmlt_arch.inference.images.encoding import details_for, encode_picture
from lmlt_arch.inference.images.formats import FORMATS

pyvips = pytest.importorskip("pyvips")


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
