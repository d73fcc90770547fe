"""Channels, depths and turns of odd images are as the file says, in memory and through the disk."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.nearest_runner import Nearest
from helpers.odd_images import (
    HALF,
    HEIGHT,
    WIDTH,
    Pixels,
    chunk,
    colors,
    from_disk,
    muted,
    png,
    saved,
    tiff,
    with_alpha,
)
from PIL import Image

from lmlt_arch import Upscaler
from lmlt_arch.data.images import ImageError
from lmlt_arch.inference.images import deep
from lmlt_arch.inference.images.decoding import decode_picture, read_header
from lmlt_arch.inference.images.encoding import Encoding, encode_picture, prepared
from lmlt_arch.inference.images.formats import FORMATS, depth_notes
from lmlt_arch.inference.images.picture import Picture
from lmlt_arch.inference.images.streaming import upscale_large

pyvips = pytest.importorskip("pyvips")


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


def test_slightly_outside_is_noted(tmp_path: Path) -> None:
    data = tiff((colors(32) * 1.05 - 0.02).astype(np.float32))
    assert "are clipped to 0..1" in decode_picture(data, "it").details.notes[0]
    assert decode_picture(data, "it").color.min() == 0
    assert "are clipped to 0..1" in from_disk(data, tmp_path, ".tif")[1][0]


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
