"""Color spaces, by numbers or profiles, are those of the file."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.odd_images import (
    GRAY,
    SRGB,
    Pixels,
    avif,
    bmp,
    chunk,
    colors,
    from_disk,
    gamma,
    muted,
    png,
    with_alpha,
)
from PIL import Image, ImageCms

from lmlt_arch.inference.images.color_profiles import CURVES, PRIMARIES, Colors
from lmlt_arch.inference.images.decoding import decode_picture
from lmlt_arch.inference.images.details import Details
from lmlt_arch.inference.images.encoding import details_for, encode_picture
from lmlt_arch.inference.images.formats import FORMATS
from lmlt_arch.inference.images.picture import Picture

pyvips = pytest.importorskip("pyvips")


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


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_profiles_of_gray_stay(format: str, depth: int) -> None:
    for alpha in (None, with_alpha(depth)[..., 3]):
        picture = replace(Picture(colors(depth)[..., :1], alpha=alpha), details=Details(icc=GRAY))
        again = decode_picture(encode_picture(picture, FORMATS[format]), "it")
        assert (again.details.icc, again.details.notes) == (GRAY, ())
