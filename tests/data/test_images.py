from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from basicsr.utils import imfrombytes
from numpy.typing import NDArray
from PIL import Image

from lmlt_arch.data.images import ImageError, decode_image, encode_png, read_image
from lmlt_arch.data.listing import flat_name, list_images
from lmlt_arch.files import OutputError, write_atomic


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def photo(photo_arrays: dict[str, NDArray[np.uint8]]) -> Image.Image:
    return Image.fromarray(photo_arrays["coffee"])


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def accepted(photo: Image.Image) -> dict[str, bytes]:
    opaque = photo.copy()
    opaque.putalpha(255)
    return {
        "png": encoded(photo, "PNG"),
        "bmp": encoded(photo, "BMP"),
        "tiff": encoded(photo, "TIFF"),
        "webp": encoded(photo, "WEBP", lossless=True),
        "jpeg": encoded(photo, "JPEG", quality=90),
        "rotated jpeg": encoded(photo, "JPEG", quality=90, exif=orientation(6)),
        "gray": encoded(photo.convert("L"), "PNG"),
        "gray jpeg": encoded(photo.convert("L"), "JPEG"),
        "black and white": encoded(photo.convert("1"), "PNG"),
        "palette": encoded(photo.quantize(64), "PNG"),
        "opaque": encoded(opaque, "PNG"),
    }


def test_decodes_what_basicsr_decodes(photo: Image.Image) -> None:
    for kind, data in accepted(photo).items():
        pixels = decode_image(data, name=kind)
        assert pixels.dtype == np.uint8
        expected = imfrombytes(data, flag="color")[..., ::-1]
        # Two JPEG libraries may round differently.
        tolerance = 2 if "jpeg" in kind else 0
        assert pixels.shape == expected.shape, kind
        assert np.abs(pixels.astype(int) - expected).max() <= tolerance, kind


def refused(photo: Image.Image) -> dict[str, tuple[bytes, str]]:
    png, jpeg = encoded(photo, "PNG"), encoded(photo, "JPEG")
    transparent = photo.copy()
    transparent.putalpha(photo.convert("L"))
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    broken = bytearray(png)
    broken[len(png) // 2 : len(png) // 2 + 9] = b"corrupted"
    return {
        "cut png": (png[: len(png) // 2], "damaged"),
        "cut jpeg": (jpeg[: len(jpeg) // 2], "damaged"),
        "broken png": (bytes(broken), "damaged"),
        "text": (b"not an image", "damaged"),
        "empty": (b"", "damaged"),
        "transparent": (encoded(transparent, "PNG"), "transparent"),
        "transparent palette": (encoded(photo.quantize(8), "PNG", transparency=0), "transparent"),
        "16-bit gray": (encoded(Image.fromarray(deep), "PNG"), "8 bits"),
        "16-bit gray tiff": (encoded(Image.fromarray(deep), "TIFF"), "8 bits"),
        "float": (encoded(Image.fromarray(deep.astype(np.float32)), "TIFF"), "8 bits"),
        "cmyk": (encoded(photo.convert("CMYK"), "JPEG"), "CMYK"),
    }


def test_refuses_by_name(photo: Image.Image) -> None:
    for kind, (data, words) in refused(photo).items():
        with pytest.raises(ImageError, match=f"^{kind} .*{words}"):
            decode_image(data, name=kind)


def test_refuses_16_bit_color(photo: Image.Image) -> None:
    cv2 = pytest.importorskip("cv2")
    deep = np.asarray(photo).astype(np.uint16) * 257
    for suffix in (".png", ".tiff"):
        with pytest.raises(ImageError, match="8 bits"):
            decode_image(cv2.imencode(suffix, deep)[1].tobytes(), name="deep")


def test_read_image_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png cannot be read"):
        read_image(tmp_path / "gone.png")


def test_png_round_trip_at_every_level(photo: Image.Image) -> None:
    pixels = np.asarray(photo)
    sizes = []
    for level in range(10):
        data = encode_png(pixels, compression_level=level)
        assert np.array_equal(decode_image(data, name="png"), pixels)
        sizes.append(len(data))
    assert sizes[0] > sizes[1] > sizes[9]


@pytest.mark.parametrize("name", [255 * "n", 127 * "é", 101 * "n"])
def test_names_as_long_as_they_may_be(tmp_path: Path, name: str) -> None:
    write_atomic(tmp_path / name, b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"new")]


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpeg", "a/b/c.webp", ".hidden/x.png", ".y.png", "notes.txt", "a.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [str(p) for p in list_images(tmp_path)] == ["a/b/c.webp", "a/z.jpeg", "a.tif", "b.PNG"]
    with pytest.raises(NotADirectoryError, match="nowhere"):
        list_images(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("0001.png", "0001"),
        ("img.v2.final.png", "img_v2_final"),
        ("holiday 2/père.v1.png", "holiday_2_pu00e8re_v1"),
        ("a/b/c.jpg", "a_b_c"),
        ("x-1_y.png", "x-1_y"),
    ],
)
def test_flat_name(path: str, name: str) -> None:
    assert flat_name(PurePosixPath(path)) == name


def test_write_atomic_replaces_or_leaves(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=r"folder\.png"):
        write_atomic(tmp_path / "folder.png", b"three")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.png", "x.png"]
