"""Images that are upscaled in rows through the disk."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.nearest_runner import Nearest
from PIL import Image

from lmlt_arch import LMLT, Upscaler
from lmlt_arch.data.images import ImageError
from lmlt_arch.files import OutputError
from lmlt_arch.inference.images.decoding import decode_picture
from lmlt_arch.inference.images.details import Details
from lmlt_arch.inference.images.encoding import Encoding, encode_picture
from lmlt_arch.inference.images.formats import DEPTHS, FORMATS
from lmlt_arch.inference.images.picture import Picture
from lmlt_arch.inference.images.streaming import upscale_large
from lmlt_arch.inference.upscaler import to_pixels

pytest.importorskip("pyvips")


def upscaled(
    folder: Path, upscaler: Upscaler, picture: Picture, after: tuple[int, int], **encoding: int
) -> Picture:
    format = FORMATS[picture.format]
    source, target = folder / f"in{format.suffix}", folder / "out" / f"result{format.suffix}"
    source.write_bytes(encode_picture(picture, format))
    upscale_large(source, target, upscaler, after=after, format=format, encoding=Encoding(**encoding))
    assert [path.name for path in target.parent.iterdir()] == [target.name], "nothing temporary stays"
    return decode_picture(target.read_bytes(), "result")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("format", "depth"), [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16), ("tiff", 32)]
)
def test_equals_the_way_through_memory(tmp_path: Path, format: str, depth: int, channels: int) -> None:
    draw = np.random.default_rng(0)
    most = 1 if depth == 32 else 2**depth - 1
    pixels = (draw.uniform(0.1, 1, (37, 90, channels)) * most).astype(DEPTHS[depth])
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    details = Details(exif=exif.tobytes(), xmp=b"<x/>", dpi=(300, 300))
    picture = replace(Picture(pixels, details=details, format=format).with_pixels(pixels))
    result = upscaled(tmp_path, Upscaler(Nearest(), tile=32, overlap=8), picture, (74, 180))
    np.testing.assert_allclose(
        result.pixels(), pixels.repeat(2, 0).repeat(2, 1), atol=1e-7 if depth == 32 else 0
    )
    assert result.details.dpi == pytest.approx((300, 300), rel=1e-3)
    assert b"Maker" in (result.details.exif or b"")
    assert result.details.xmp == b"<x/>"


def test_with_a_network_and_hidden_colors(tmp_path: Path, checkpoint: Path, photo: Image.Image) -> None:
    pixels = np.asarray(photo.resize((200, 150)).convert("RGBA")).copy()
    pixels[40:60, 30:90] = 0
    picture = Picture(pixels).with_pixels(pixels)
    upscaler = Upscaler(checkpoint, tile=128)
    result = upscaled(tmp_path, upscaler, picture, (300, 400)).pixels()
    (output,) = upscaler.upscale_planes([pixels])
    expected = to_pixels(output.planes, np.uint8)
    seen = expected[..., 3] > 0
    difference = np.abs(result.astype(int) - expected)
    np.testing.assert_array_equal(result[..., 3], expected[..., 3])
    # What is hidden gets its colors from a tile only, and shines through a little at the edge.
    assert difference[seen].mean() < 0.05
    assert difference[:60][seen[:60]].max() <= 1


@pytest.mark.parametrize(("after", "depth"), [((90, 111), 8), ((30, 37), 16)])
def test_resized(tmp_path: Path, after: tuple[int, int], depth: int) -> None:
    y, x = np.mgrid[:60, :74] / 74
    pixels = np.rint(np.stack([y, x, 1 - x], -1) * (2**depth - 1)).astype(DEPTHS[depth])
    result = upscaled(tmp_path, Upscaler(Nearest()), Picture(pixels), after)
    assert result.size == after
    assert result.depth == depth
    middle = result.color[after[0] // 2, after[1] // 2].astype(float) / pixels[30, 37]
    np.testing.assert_allclose(middle, 1, atol=0.05)


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation(tmp_path: Path, photo: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "in.png", exif=exif.tobytes())
    target = tmp_path / "result.png"
    after = (60, 80) if orientation == 3 else (80, 60)
    upscale_large(
        tmp_path / "in.png",
        target,
        Upscaler(Nearest()),
        after=after,
        format=FORMATS["png"],
        encoding=Encoding(),
    )
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270}
    upright = np.asarray(photo.transpose(turns[orientation])).repeat(2, 0).repeat(2, 1)
    got = Image.open(target)
    np.testing.assert_array_equal(np.asarray(got), upright)
    assert got.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(("format", "background"), [("jpg", None), ("jpg", (9, 9, 9)), ("png", (9, 9, 9))])
def test_no_other_background_than_asked_for(
    tmp_path: Path, format: str, background: tuple[int, int, int] | None
) -> None:
    Image.new("RGBA", (20, 10), (200, 100, 50, 9)).save(tmp_path / "in.png")
    with pytest.raises(ImageError, match=r"in\.png is transparent and too large"):
        upscale_large(
            tmp_path / "in.png",
            tmp_path / "out" / "result",
            Upscaler(Nearest()),
            after=(20, 40),
            format=FORMATS[format],
            encoding=Encoding(background=background),
        )
    assert not list((tmp_path / "out").iterdir())


def test_a_truncated_file_leaves_nothing(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "whole.png")
    (tmp_path / "in.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    with pytest.raises(ImageError, match=r"in\.png is damaged"):
        upscale_large(
            tmp_path / "in.png",
            tmp_path / "out" / "result.png",
            Upscaler(Nearest()),
            after=(60, 80),
            format=FORMATS["png"],
            encoding=Encoding(),
        )
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_without_room_is_noticed_before(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "in.png")
    runner = Nearest(scale=2**15)
    upscaler = Upscaler(runner, tile=128)
    runner.batches.clear()
    with pytest.raises(OutputError, match=r"GiB of disk space are needed to make it, and .* GiB are free"):
        upscale_large(
            tmp_path / "in.png",
            tmp_path / "result.png",
            upscaler,
            after=(30 * 2**15, 40 * 2**15),
            format=FORMATS["png"],
            encoding=Encoding(),
        )
    assert not runner.batches


def test_rows_of_wide_images_are_low(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Nearest()
    upscaler = Upscaler(runner, tile=64, overlap=8)
    monkeypatch.setattr("lmlt_arch.inference.upscaler.available_memory", lambda device: 4 * 24 * 4 * 500 * 20)
    runner.batches.clear()
    heights = [
        rows.shape[-2]
        for rows in upscaler.bands(
            lambda y, x: torch.zeros(1, 3, y.stop - y.start, x.stop - x.start), 100, 500
        )
    ]
    assert sum(heights) == 200
    assert {shape[-2:] for shape in runner.batches} >= {(20, 20)}
    assert upscaler.tile == 64, "only for this image"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB there")
def test_memory_is_bounded(tmp_path: Path, users_environment: dict[str, str]) -> None:
    """The result takes 148 MiB in 8 bits and 593 MiB in float, beside what a row of tiles needs."""
    torch.manual_seed(0)
    torch.save({"params": LMLT(4, 1, upscaling_factor=4).state_dict()}, tmp_path / "net.pth")
    y, x = np.mgrid[:1200, :2700]
    pixels = np.stack([y % 256, x % 256, (x + y) % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    Image.fromarray(pixels[:64, :64]).save(tmp_path / "small.png")
    script = """
import resource, sys
from pathlib import Path
import torch
from lmlt_arch.cli import main
torch.set_num_threads(1)
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

    def peak(name: str) -> int:
        command = ["upscale", name, "-o", "out", "--model", "net.pth", "--tile", "128", "--in-memory", "1e6"]
        done = subprocess.run(
            [sys.executable, "-c", script, *command],
            cwd=tmp_path,
            env=users_environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    idle, most = peak("small.png"), peak("in.png")
    with Image.open(tmp_path / "out" / "in.png") as result:
        assert result.size == (10800, 4800)
    # 24 W t s^2 = 24 * 2700 * 128 * 16 bytes = 127 MiB, and some room for the allocator and libvips.
    assert most - idle < 300
