"""Videos that cannot be used: one clear line, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmlt_arch.files import OutputError
from lmlt_arch.inference.video.upscale import VideoError, upscale_video

pytest.importorskip("av")
import av
import av.logging
from helpers.small.videos import moving_frames, read_video, twice, write_video


def refusal(source: Path, target: Path, **options: Any) -> str:
    """The one line with which a video is refused, nothing having been written."""
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(VideoError) as caught:
        upscale_video(source, target, twice, **options)
    assert sorted(target.parent.rglob("*")) == before
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    write_video(path, moving_frames(9))
    return path


def noisy(count: int) -> list[av.VideoFrame]:
    """Frames that take some bytes."""
    frames = moving_frames(count)
    rng = np.random.default_rng(0)
    for frame in frames:
        for plane in frame.planes:
            plane.update(rng.integers(60, 190, plane.buffer_size, np.uint8).tobytes())
    return frames


@pytest.mark.parametrize("part", [0.3, 0.6, 0.85])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("in.mkv", {}),
        ("in.webm", {}),
        ("in.flv", {}),
        ("in.avi", {}),
        ("in.mp4", {"movflags": "faststart"}),
        ("in.mov", {"movflags": "faststart"}),
        ("in.wmv", {}),
        ("in.ogv", {}),
    ],
)
def test_a_file_that_ends_early_is_refused(
    tmp_path: Path, name: str, options: dict[str, str], part: float
) -> None:
    source = tmp_path / name
    codec = {".webm": "libvpx-vp9", ".ogv": "libvpx", ".wmv": "wmv2"}.get(source.suffix, "libx264")
    fast = {"crf": "4", "b:v": "0", "deadline": "realtime", "cpu-used": "8"}
    settings = {"libx264": {"crf": "4", "bf": "0"}, "wmv2": {}}.get(codec, fast)
    write_video(
        source, noisy(60), codec=codec, options=settings, time_base=Fraction(1, 30), container_options=options
    )
    source.write_bytes(source.read_bytes()[: int(part * source.stat().st_size)])
    line = refusal(source, tmp_path / "out.mp4")
    if "its beginning or end is missing" not in line:
        assert line.startswith(f"{source}: cut short, it ends after ")
        frames = int(line.split(" seconds and ")[1].split()[0])
        # VP8 gives its first frame most of the bytes here.
        assert abs(frames - part * 60) < 10 or codec == "libvpx"


def test_an_mp4_without_its_table_is_refused(film: Path, tmp_path: Path) -> None:
    film.write_bytes(film.read_bytes()[:-500])
    line = refusal(film, tmp_path / "out.mp4")
    assert line.startswith(f"{film}: not a video, or its beginning or end is missing")


def test_damage_in_the_middle_is_reported_with_its_place(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, noisy(30), options={"crf": "4", "bf": "0"})
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    damaged = bytearray(source.read_bytes())
    place, size = packets[20].pos, packets[20].size
    damaged[place : place + size] = bytes([255]) * size
    source.write_bytes(damaged)
    with pytest.raises(VideoError, match=r"in\.mp4: damaged after (1\d|20) whole frames"):
        upscale_video(source, target, twice)
    assert not target.exists()


@pytest.mark.parametrize(
    ("codec", "options", "first"),
    [
        ("ffv1", {"slicecrc": "1"}, "ffv1: "),
        ("libx265", {"x265-params": "log-level=none:hash=1:crf=10"}, "hevc: Verifying checksum for frame"),
    ],
)
def test_damage_that_a_checksum_shows_is_counted(
    tmp_path: Path, codec: str, options: dict[str, str], first: str
) -> None:
    source = tmp_path / "in.mkv"
    write_video(source, noisy(6), codec=codec, options=options)
    assert upscale_video(source, tmp_path / "0.mkv", twice).notes == ()
    with av.open(str(source)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][3]
    damaged = bytearray(source.read_bytes())
    damaged[packet.pos + packet.size // 2] ^= 255
    source.write_bytes(damaged)
    # A second time, though it is the last error that was met.
    for name in ("1.mkv", "2.mkv"):
        (note,) = upscale_video(source, tmp_path / name, twice).notes
        assert note.startswith("damaged, frames may be wrong or missing; errors met: ")
        assert f", first '{first}" in note
    assert av.logging.get_level() is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"", "the file is empty"), (b"not a video at all\n" * 99, "not a video")],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    source = tmp_path / "in.mp4"
    if content is not None:
        source.write_bytes(content)
    assert refusal(source, tmp_path / "out.mp4").startswith(f"{source}: {said}")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, tmp_path / "out.mp4") == f"{tmp_path}: no such file"


def test_a_sound_file_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    write_video(source, moving_frames(9), audio="flac")
    sound = tmp_path / "sound.mkv"
    with av.open(str(source)) as old, av.open(str(sound), "w", format="matroska") as new:
        stream = new.add_stream_from_template(old.streams.audio[0], opaque=True)
        for packet in old.demux(audio=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    assert refusal(sound, tmp_path / "out.mkv") == f"{sound}: holds no video stream that FFmpeg can decode"


def test_interlaced_video_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    write_video(source, moving_frames(9), options={"crf": "4", "flags": "+ildct+ilme"})
    assert f"{source}: frame 0 is interlaced; deinterlace it first" in refusal(source, tmp_path / "out.mkv")


def test_a_change_of_size_is_refused(tmp_path: Path) -> None:
    one, other, source = tmp_path / "1.ts", tmp_path / "2.ts", tmp_path / "in.ts"
    write_video(one, moving_frames(30))
    write_video(other, moving_frames(30, 96, 80), times=[1000 * i for i in range(30, 60)])
    source.write_bytes(one.read_bytes() + other.read_bytes())
    with pytest.raises(VideoError, match=r"in\.ts: changes from 64x48 to 96x80 after 30 frames; split it"):
        upscale_video(source, tmp_path / "out.mp4", twice)


def test_a_change_of_colors_is_refused(tmp_path: Path) -> None:
    one, other, source = tmp_path / "1.ts", tmp_path / "2.ts", tmp_path / "in.ts"
    write_video(one, moving_frames(30), color_range=1)
    write_video(other, moving_frames(30), times=[1000 * i for i in range(30, 60)], color_range=2)
    source.write_bytes(one.read_bytes() + other.read_bytes())
    with pytest.raises(VideoError, match=r"in\.ts: changes its colors after (28|30) frames; split it"):
        upscale_video(source, tmp_path / "out.mp4", twice)


def test_frames_that_are_missing_are_reported(tmp_path: Path) -> None:
    source = tmp_path / "in.ts"
    content = b""
    for first in (0, 30):
        piece = tmp_path / "piece.ts"
        write_video(piece, moving_frames(10), times=[1000 * i for i in range(first, first + 10)])
        content += piece.read_bytes()
    source.write_bytes(content)
    report = upscale_video(source, tmp_path / "out.mkv", twice)
    assert report.frames == 20
    assert report.notes[-1] == "places where frames are missing: 1, first before frame 10"


def test_a_folder_that_cannot_be_is_named(film: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*film\.mp4"):
        upscale_video(film, film / "out.mp4", twice)


def test_pieces_put_together_are_refused(tmp_path: Path) -> None:
    piece, source = tmp_path / "1.ts", tmp_path / "in.ts"
    write_video(piece, moving_frames(60))
    source.write_bytes(2 * piece.read_bytes())
    line = refusal(source, tmp_path / "out.mp4")
    assert line.startswith(f"{source}: its clock jumps from 2.0 back to 0.0 seconds after 60 frames")


def test_sound_that_begins_later_on_is_no_obstacle(tmp_path: Path) -> None:
    source = tmp_path / "in.ts"
    content = b""
    for number, audio in enumerate((None, "aac", None)):
        piece = tmp_path / "piece.ts"
        times = [1000 * i for i in range(30 * number, 30 * number + 30)]
        write_video(piece, moving_frames(30), times=times, audio=audio, audio_start=Fraction(number))
        # Empty packets, more than is read at either end to find out what the file holds.
        content += piece.read_bytes() + (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 30000
    source.write_bytes(content)
    with av.open(str(source)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert upscale_video(source, tmp_path / "out.mp4", twice).frames == 90


def test_damaged_sound_is_left_out_and_counted(tmp_path: Path) -> None:
    source, target = tmp_path / "in.ts", tmp_path / "out.mp4"
    write_video(source, moving_frames(30), audio="aac")
    with av.open(str(source)) as container:
        sound = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    content = source.read_bytes()
    # The beginning of one ADTS frame, by which muxers know what it is.
    assert content.count(sound[9][:20]) == 1
    source.write_bytes(content.replace(sound[9][:20], bytes(20)))
    report = upscale_video(source, target, twice)
    assert report.notes == ("left out: 1 damaged packets of audio 1",)
    assert len(read_video(target).packets["audio"]) == len(sound) - 1


def test_what_the_encoder_refuses_is_not_called_a_full_disk(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_video(source, moving_frames(3), times=[0, 1000, 30000 * 4000000])
    with pytest.raises(VideoError, match=r"out\.mkv: the encoder refuses: "):
        upscale_video(source, target, twice, codec="mpeg4")


class TestTarget:
    def test_that_exists_is_left_alone(self, film: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.mp4"
        target.write_bytes(b"mine")
        assert refusal(film, target).startswith(f"{target}: exists already")
        assert target.read_bytes() == b"mine"
        upscale_video(film, target, twice, overwrite=True)
        assert len(read_video(target).frames) == 9

    def test_may_not_be_the_source(self, film: Path) -> None:
        assert refusal(film, film, overwrite=True).startswith(f"{film}: is the source itself")

    def test_may_not_be_a_folder(self, film: Path, tmp_path: Path) -> None:
        (tmp_path / "out.mp4").mkdir()
        assert refusal(film, tmp_path / "out.mp4", overwrite=True).startswith(
            f"{tmp_path / 'out.mp4'}: is a folder"
        )

    @pytest.mark.parametrize("name", ["out.avi", "out.png", "out"])
    def test_needs_a_container_that_keeps_times(self, film: Path, tmp_path: Path, name: str) -> None:
        line = refusal(film, tmp_path / name)
        assert line == f"{tmp_path / name}: videos are written as .m4v, .mkv, .mov, .mp4, .webm"

    @pytest.mark.parametrize("size", [None, (96, 128)])
    def test_must_take_the_encoder(self, film: Path, tmp_path: Path, size: tuple[int, int] | None) -> None:
        line = refusal(film, tmp_path / "out.webm", size=size)
        assert line.startswith(f"{tmp_path / 'out.webm'}: cannot hold libx264 at 128x96 (")

    def test_needs_an_encoder(self, film: Path, tmp_path: Path) -> None:
        line = refusal(film, tmp_path / "out.mp4", codec="x266")
        assert line == f"{tmp_path / 'out.mp4'}: FFmpeg has no encoder 'x266' here; libx264 is the usual one"

    def test_needs_settings_that_the_encoder_takes(self, film: Path, tmp_path: Path) -> None:
        assert "cannot hold libx264 at 128x96" in refusal(film, tmp_path / "out.mp4", crf=-3)

    def test_is_made_with_its_folder(self, film: Path, tmp_path: Path) -> None:
        target = tmp_path / "a" / "b" / "out: 100%03d.mp4"
        upscale_video(film, target, twice)
        assert list(target.parent.iterdir()) == [target]


def test_a_missing_library_is_named(film: Path, tmp_path: Path, repo_root: Path) -> None:
    script = (
        "import sys; sys.modules['av'] = None\n"
        "from pathlib import Path\n"
        "from lmlt_arch.inference.video.upscale import VideoError, upscale_video\n"
        "try: upscale_video(Path('film.mp4'), Path('out.mp4'), print)\n"
        "except VideoError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
    )
    assert run.stdout.startswith("film.mp4: videos need PyAV (")
    assert run.stdout.endswith('): pip install "basicsr-lmlt[video]"\n')
    assert run.stderr == ""
