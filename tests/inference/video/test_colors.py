"""The colors of videos: what reaches the network, and what comes back."""

from __future__ import annotations

import gc
import io
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

from lmlt_arch.inference.video.upscale import VideoError, upscale_video

pytest.importorskip("av")
import av
from helpers.small.videos import (
    codes_of,
    color_of_codes,
    moving_frames,
    plain_frame,
    planes,
    read_video,
    twice,
    write_video,
)

from lmlt_arch.inference.video.color import color_of

PATCH = (0.8, 0.3, 0.15)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_a_plain_color_stays(tmp_path: Path, pixels: str, full: bool, matrix: int) -> None:
    bits = 10 if "10" in pixels else 8
    codes = codes_of(PATCH, matrix, full=full, bits=bits)
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    frames = [plain_frame(codes, 64, 48, pixels) for _ in range(3)]
    # 16 is PQ, and 9 the primaries of BT.2020.
    write_video(source, frames, colorspace=matrix, color_range=1 + full, color_primaries=9, color_trc=16)
    report = upscale_video(source, target, twice, crf=4)
    after = read_video(target)
    assert after.colors == (9, 16, matrix, 1 + full)
    assert after.pixels.replace("yuvj", "yuv") == pixels
    for frame in after.frames:
        for plane, code in zip(planes(frame), codes, strict=True):
            assert np.abs(plane - code).max() <= 1
        found = color_of_codes([plane.mean() for plane in planes(frame)], matrix, full=full, bits=bits)
        assert np.abs(found - PATCH).max() <= 2 / 255
    assert report.notes == ()


@pytest.mark.parametrize(("width", "height", "matrix"), [(64, 48, 6), (1056, 16, 1), (16, 608, 1)])
def test_colors_that_are_not_said_are_those_of_the_size(
    tmp_path: Path, width: int, height: int, matrix: int
) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    codes = codes_of(PATCH, matrix, full=False)
    write_video(source, [plain_frame(codes, width, height)])
    # To the other side of the rule.
    upscale_video(source, target, twice, size=(720, 1280) if matrix == 6 else (72, 128))
    after = read_video(target)
    assert after.colors == (2, 2, matrix, 1)
    for plane, code in zip(planes(after.frames[0]), codes, strict=True):
        assert np.abs(plane - code).max() <= 1


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "bgr0"), ("ffv1", "gbrp10le"), ("png", "rgb24")])
def test_colors_of_rgb(tmp_path: Path, codec: str, pixels: str) -> None:
    source, target = tmp_path / ("in.mov" if codec == "png" else "in.mkv"), tmp_path / "out.mkv"
    if pixels == "gbrp10le":
        frame = plain_frame([PATCH[i] * 1023 for i in (1, 2, 0)], 64, 48, pixels)
    else:
        rgb = np.full((48, 64, 3), np.multiply(PATCH, 255).round(), np.uint8)
        frame = av.VideoFrame.from_ndarray(rgb).reformat(format=pixels)
    write_video(source, [frame], codec=codec, options={})
    upscale_video(source, target, twice, crf=4)
    after = read_video(target)
    bits = 10 if "10" in pixels else 8
    assert after.pixels == ("yuv444p10le" if bits == 10 else "yuv444p")
    assert after.colors[2:] == (6, 1)
    codes = [plane.mean() for plane in planes(after.frames[0])]
    assert np.abs(color_of_codes(codes, 6, full=False, bits=bits) - PATCH).max() <= 2 / 255


@pytest.mark.parametrize("pixels", ["rgb48be", "rgba64be", "gbrap16le", "gray16be", "ya16be", "gbrp12le"])
def test_deep_colors_reach_the_network(tmp_path: Path, pixels: str) -> None:
    """Every bit of them, in whatever order of bytes and components they are stored."""
    values = (40123, 20011, 9999) if "gray" not in pixels and "ya" not in pixels else (30001,) * 3
    packed = np.tile(np.array(values, np.uint16), (16, 16, 1))
    given = av.VideoFrame.from_ndarray(packed, format="rgb48le")
    if "gray" in pixels or "ya" in pixels:
        given = av.VideoFrame.from_ndarray(packed[..., 0].copy(), format="gray16le")
    frame = given.reformat(format=pixels, src_color_range=2, dst_color_range=2)
    seen: list[Tensor] = []

    def watched(images: Tensor) -> Tensor:
        seen.append(images)
        return twice(images)

    source = tmp_path / ("in.mkv" if pixels.endswith("le") else "in.mov")
    write_video(source, [frame], codec="ffv1" if pixels.endswith("le") else "png", options={}, color_range=2)
    report = upscale_video(source, tmp_path / "out.mkv", watched)
    expected = torch.tensor(values).view(3, 1, 1) / 65535
    assert (seen[0] - expected).abs().max() < (2e-4 if pixels == "gbrp12le" else 1e-6)
    assert ("not kept: transparency" in report.notes) == ("a" in pixels.replace("gray", ""))


@pytest.mark.parametrize("pixels", ["gbrpf32le", "grayf32le", "xyz12le"])
def test_numbers_that_are_no_codes_of_rgb_are_refused(pixels: str) -> None:
    frame = av.VideoFrame(16, 16, pixels)
    with pytest.raises(ValueError, match=f"its pixel format, {pixels}, is not supported; convert it"):
        color_of(frame)


@pytest.mark.parametrize(
    ("name", "codec", "tags"),
    [
        ("out.mov", "prores_ks", (9, 16, 9, 1)),
        ("out.mkv", "mjpeg", (9, 16, 5, 2)),
        ("out.webm", "libvpx", (9, 16, 5, 1)),
    ],
)
def test_what_cannot_be_said_of_the_result_is_not_done(
    tmp_path: Path, name: str, codec: str, tags: tuple[int, ...]
) -> None:
    """ProRes has no full range, motion JPEG no matrix but BT.601's: colors are those that players see."""
    codes = codes_of(PATCH, 9, full=True)
    source, target = tmp_path / "in.mkv", tmp_path / name
    write_video(
        source,
        [plain_frame(codes, 64, 48)],
        colorspace=9,
        color_range=2,
        color_primaries=9,
        color_trc=16,
    )
    upscale_video(source, target, twice, codec=codec, crf=4)
    with av.open(str(target)) as container:
        frame = next(container.decode(video=0))
    seen = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
    assert seen == tags
    bits = 10 if "10" in frame.format.name else 8
    found = color_of_codes(
        [plane.mean() for plane in planes(frame)],
        9 if tags[2] == 9 else 6,
        full=tags[3] == 2,
        bits=bits,
    )
    assert np.abs(found - PATCH).max() <= 3 / 255


def test_colors_of_gray(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_video(source, [plain_frame([100], 64, 48, "gray")], codec="ffv1", options={}, color_range=2)
    upscale_video(source, target, twice, crf=4)
    after = read_video(target)
    assert (after.pixels, after.colors[3]) == ("yuvj420p", 2)
    assert [int(plane.mean().round()) for plane in planes(after.frames[0])] == [100, 128, 128]


def test_colors_reach_the_network_as_they_are_meant(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def watched(images: Tensor) -> Tensor:
        seen.append(images)
        return twice(images)

    source = tmp_path / "in.mkv"
    for full in (False, True):
        codes = codes_of(PATCH, 1, full=full)
        write_video(source, [plain_frame(codes, 64, 48)], colorspace=1, color_range=1 + full)
        upscale_video(source, tmp_path / "out.mkv", watched, overwrite=True)
    for images in seen:
        error = images - torch.tensor(PATCH).view(3, 1, 1)
        assert error.abs().max() < 1.5 / 255


def test_chroma_lies_where_luma_does(tmp_path: Path) -> None:
    """A ramp in color comes back as that ramp: nothing is shifted by part of a pixel."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    frame = plain_frame([512, 512, 512], 64, 48, "yuv420p10le")
    # Samples of chroma lie on even columns, and between two rows.
    planes(frame)[1][:] = 320 + 12 * np.arange(32)
    planes(frame)[2][:] = (320 + 16 * np.arange(24))[:, None]
    write_video(source, [frame], codec="ffv1", options={}, colorspace=1, color_range=1)

    def linear(images: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")

    upscale_video(source, target, linear, codec="ffv1")
    _, u, v = planes(read_video(target).frames[0])
    # Column 2 i of the result is at 2 i / 2 - 1/4 of the source's luma, line j of chroma at j / 2 - 1/4.
    expected_u = 320 + 12 * (np.arange(64) - 0.25) / 2
    expected_v = 320 + 16 * (np.arange(48) / 2 - 0.25)
    assert np.abs(u[8:-8, 8:-8] - expected_u[8:-8]).max() <= 1
    assert np.abs(v[8:-8, 8:-8] - expected_v[8:-8, None]).max() <= 1


def test_colors_that_no_encoder_here_can_hold_are_named(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_video(source, moving_frames(2, pixels="yuv444p10le"))
    policy = os.sched_getscheduler(0)
    report = upscale_video(source, target, twice, codec="libsvtav1", crf=30)
    assert os.sched_getscheduler(0) == policy, "the encoder asks for real-time priority"
    assert report.notes == ("libsvtav1 encodes yuv420p10le, less than the source's yuv444p10le",)
    assert read_video(target).pixels == "yuv420p10le"


def test_colors_of_an_unknown_matrix_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    write_video(source, moving_frames(2), colorspace=14)
    with pytest.raises(VideoError, match=r"in\.mkv: its color matrix, number 14"):
        upscale_video(source, tmp_path / "out.mkv", twice)


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    display = (
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    )
    hdr = {"x265-params": f"{display}:log-level=none"}
    write_video(source, moving_frames(3, pixels="yuv420p10le"), codec="libx265", options=hdr, color_trc=16)
    assert upscale_video(source, target, twice).notes == (
        "not kept: HDR mastering display data",
        "not kept: HDR content light level",
    )
    assert read_video(target).colors[1] == 16
    frame = plain_frame([100, 120, 130, 200], 64, 48, "yuva420p")
    write_video(source, [frame], codec="ffv1", options={})
    assert upscale_video(source, target, twice, overwrite=True).notes == ("not kept: transparency",)


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
def test_a_profile_that_cannot_be_kept_is_named(tmp_path: Path, codec: str) -> None:
    """PyAV frees what comes with a profile twice, and knows no EXIF data: neither stops the work."""
    source, picture = tmp_path / "in.mov", io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48), (200, 100, 50)).save(
        picture, "PNG" if codec == "png" else "JPEG", icc_profile=profile, exif=exif
    )
    with av.open(str(source), "w") as container:
        stream = container.add_stream(codec, 30, width=64, height=48, time_base=Fraction(1, 30))
        stream.codec_context.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
        packet = av.Packet(picture.getvalue())
        packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 30), 0, 0
        packet.is_keyframe = True
        container.mux(packet)
    report = upscale_video(source, tmp_path / "out.mkv", twice)
    gc.collect()
    assert report.notes == ("not kept: ICC color profile", "not kept: EXIF data inside the video stream")
    assert read_video(tmp_path / "out.mkv").frames[0].rotation == -90


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparency_beside_the_frames_is_named(tmp_path: Path, codec: str) -> None:
    source, target = tmp_path / "in.webm", tmp_path / "out.webm"
    frame = plain_frame([100, 120, 130, 200], 64, 48, "yuva420p")
    write_video(source, [frame], codec=codec, options={"auto-alt-ref": "0"})
    with av.open(str(source)) as container:
        assert container.streams.video[0].metadata["alpha_mode"] == "1"
    report = upscale_video(source, target, twice, codec="libvpx-vp9")
    assert report.notes == ("not kept: transparency",)
    with av.open(str(target)) as container:
        assert "alpha_mode" not in {name.lower() for name in container.streams.video[0].metadata}
