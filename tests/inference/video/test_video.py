"""Videos: frames upscaled one by one, everything else as it was, in files that FFmpeg made and reads."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lmlt_arch.inference.video.upscale import VideoError, VideoReport, upscale_video

pytest.importorskip("av")
import av
from helpers.small.videos import (
    TIME_BASE,
    moving_frames,
    plain_frame,
    planes,
    read_video,
    twice,
    write_video,
)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """30 frames of 64x48."""
    path = tmp_path / "film.mp4"
    write_video(path, moving_frames(30))
    return path


class TestFrames:
    def test_are_all_upscaled_in_order(self, film: Path, tmp_path: Path) -> None:
        seen: list[tuple[int, int | None]] = []
        report = upscale_video(
            film, tmp_path / "out.mp4", twice, batch=4, progress=lambda *done: seen.append(done)
        )
        before, after = read_video(film), read_video(tmp_path / "out.mp4")
        assert report == VideoReport(30, Fraction(30), (48, 64), (96, 128), 0, ())
        assert after.times == before.times
        assert seen == [(done, 30) for done in (4, 8, 12, 16, 20, 24, 28, 30)]
        for old, new in zip(before.frames, after.frames, strict=True):
            assert (new.width, new.height) == (128, 96)
            luma = planes(old)[0].repeat(2, 0).repeat(2, 1).astype(float)
            assert np.abs(planes(new)[0] - luma).mean() < 2
        assert list(tmp_path.iterdir()) == [film, tmp_path / "out.mp4"]

    @pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
    def test_keep_a_variable_rate_and_a_late_start(self, tmp_path: Path, suffix: str) -> None:
        base = Fraction(1, 90000)
        steps = np.random.default_rng(2).integers(1500, 9000, 40)
        times = [int(t) for t in 123457 + np.cumsum(steps)]
        source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
        write_video(
            source,
            moving_frames(40),
            times=times,
            time_base=base,
            rate=Fraction(90000, 5250),
            container_options={"movie_timescale": "90000"},
        )
        report = upscale_video(source, target, twice, part_frames=7)
        before, after = read_video(source), read_video(target)
        assert before.times == [t * base for t in times]
        # Matroska counts in milliseconds.
        unit = Fraction(1, 1000) if suffix == ".mkv" else base
        assert after.times == [round(t / unit) * unit for t in before.times]
        assert report.fps == before.rate
        # MP4 has a rate by the time for which all frames are shown, Matroska says one.
        shown = before.times[-1] - before.times[0] + before.frames[-1].duration * base
        assert after.rate == pytest.approx(before.rate if suffix == ".mkv" else 40 / shown, rel=1e-4)

    @pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001), Fraction(60000, 1001)])
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_keep_the_rate(self, tmp_path: Path, rate: Fraction, suffix: str) -> None:
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        write_video(source, moving_frames(9), rate=rate, time_base=1 / rate)
        upscale_video(source, target, twice, part_frames=4)
        before, after = read_video(source), read_video(target)
        assert (after.rate, after.times) == (before.rate, before.times)
        assert after.rate == pytest.approx(rate, rel=1e-3)

    @pytest.mark.parametrize("name", ["film.ts", "film.avi", "film.flv", "film.mkv", "film.mov"])
    def test_come_from_any_container(self, tmp_path: Path, name: str) -> None:
        source = tmp_path / name
        write_video(source, moving_frames(12), time_base=Fraction(1, 30), options={"crf": "4", "bf": "0"})
        upscale_video(source, tmp_path / "out.mp4", twice)
        before, after = read_video(source), read_video(tmp_path / "out.mp4")
        assert after.times == before.times
        assert len(after.times) == 12

    def test_are_given_together(self, film: Path, tmp_path: Path) -> None:
        shapes: list[tuple[int, ...]] = []

        def watched(images: Tensor) -> Tensor:
            shapes.append(tuple(images.shape))
            assert images.dtype == torch.float32
            assert 0 <= images.min() <= images.max() <= 1
            return twice(images)

        upscale_video(film, tmp_path / "out.mkv", watched, batch=8)
        assert shapes == [(8, 3, 48, 64)] * 3 + [(6, 3, 48, 64)]
        with pytest.raises(ValueError, match="batch and part_frames must be at least 1; got 0, 250"):
            upscale_video(film, tmp_path / "none.mkv", watched, batch=0)


class TestSize:
    def test_may_be_chosen(self, film: Path, tmp_path: Path) -> None:
        report = upscale_video(film, tmp_path / "out.mp4", twice, size=(72, 96))
        after = read_video(tmp_path / "out.mp4")
        assert report.size == (72, 96) == (after.frames[0].height, after.frames[0].width)

    def test_may_follow_from_the_source(self, film: Path, tmp_path: Path) -> None:
        report = upscale_video(
            film, tmp_path / "out.mp4", twice, size=lambda size: (size[0] * 3, size[1] * 3)
        )
        assert (report.source_size, report.size) == ((48, 64), (144, 192))

    def test_may_be_odd(self, film: Path, tmp_path: Path) -> None:
        report = upscale_video(film, tmp_path / "out.mp4", twice, size=(73, 97))
        after = read_video(tmp_path / "out.mp4")
        assert report.size == (73, 97) == (after.frames[0].height, after.frames[0].width)
        assert after.pixels == "yuv444p"

    def test_of_an_odd_source(self, tmp_path: Path) -> None:
        source, target = tmp_path / "in.webm", tmp_path / "out.mkv"
        frames = moving_frames(5, 33, 25)
        write_video(source, frames, codec="libvpx-vp9")
        upscale_video(source, target, twice)
        before, after = read_video(source), read_video(target)
        assert (after.frames[0].width, after.frames[0].height, after.pixels) == (66, 50, "yuv420p")
        luma = planes(before.frames[0])[0].repeat(2, 0).repeat(2, 1).astype(float)
        assert np.abs(planes(after.frames[0])[0] - luma).mean() < 2

    def test_of_another_shape_changes_that_of_pixels(self, tmp_path: Path) -> None:
        source = tmp_path / "in.mp4"
        write_video(source, moving_frames(5), sample_aspect_ratio=Fraction(64, 45))
        upscale_video(source, tmp_path / "same.mp4", twice)
        upscale_video(source, tmp_path / "wide.mp4", twice, size=(96, 256))
        assert read_video(tmp_path / "same.mp4").aspect == Fraction(64, 45)
        assert read_video(tmp_path / "wide.mp4").aspect == Fraction(32, 45)

    def test_that_an_encoder_cannot_do_is_refused(self, film: Path, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match=r"out.mkv: libsvtav1 cannot encode 129x97 .* even width"):
            upscale_video(film, tmp_path / "out.mkv", twice, size=(97, 129), codec="libsvtav1")
        assert list(tmp_path.iterdir()) == [film]


class TestOtherStreams:
    @pytest.mark.parametrize(
        ("audio", "suffix"),
        [("aac", ".mp4"), ("aac", ".mkv"), ("flac", ".mkv"), ("pcm_s16le", ".mov"), ("libmp3lame", ".mp4")],
    )
    def test_sound_is_copied(self, tmp_path: Path, audio: str, suffix: str) -> None:
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        write_video(source, moving_frames(30), audio=audio, audio_start=Fraction(1, 4))
        report = upscale_video(source, target, twice, part_frames=8)
        before, after = read_video(source), read_video(target)
        assert len(before.packets["audio"]) > 10
        assert after.packets == before.packets
        assert after.times == before.times
        assert after.languages == before.languages == {"audio": "fra"}
        assert after.dispositions == before.dispositions
        assert report.notes == ()

    @pytest.mark.parametrize(("subtitles", "suffix"), [("subrip", ".mkv"), ("mov_text", ".mp4")])
    def test_subtitles_are_copied(self, tmp_path: Path, subtitles: str, suffix: str) -> None:
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        write_video(source, moving_frames(30), audio="aac", subtitles=subtitles)
        report = upscale_video(source, target, twice)
        before, after = read_video(source), read_video(target)
        assert [text for _, text in after.packets["subtitle"] if b"Line" in text] != []
        assert after.packets == before.packets
        assert after.languages == before.languages == {"audio": "fra", "subtitle": "deu"}
        assert after.dispositions == before.dispositions
        assert after.names == before.names
        assert report.notes == ()

    def test_what_the_container_cannot_hold_is_named(self, tmp_path: Path) -> None:
        source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
        write_video(source, moving_frames(9), audio="aac", subtitles="subrip", attachment=b"\0\1\0\0")
        report = upscale_video(source, target, twice)
        after = read_video(target)
        assert after.packets == {"audio": read_video(source).packets["audio"]}
        assert report.notes == (
            "left out: subtitle 2 srt deu, which .mp4 cannot hold",
            "left out: attachment 3, which .mp4 cannot hold",
        )

    def test_tags_chapters_and_attachments_are_copied(self, tmp_path: Path) -> None:
        source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
        chapters = [
            {
                "id": i,
                "start": 500 * i,
                "end": 500 * (i + 1),
                "time_base": Fraction(1, 1000),
                "metadata": {"title": name},
            }
            for i, name in enumerate(("Before", "After"))
        ]
        write_video(source, moving_frames(30), chapters=chapters, attachment=bytes(range(200)))
        upscale_video(source, target, twice)
        after = read_video(target)
        assert after.title == "A small film"
        assert after.chapters == [(0, Fraction(1, 2), "Before"), (Fraction(1, 2), 1, "After")]
        assert after.attachments == [bytes(range(200))]

    def test_tags_that_the_container_cannot_hold_are_named(self, tmp_path: Path) -> None:
        source = tmp_path / "in.mkv"
        tags = {"artist": "One", "mood": "calm", "weather": "fair"}
        write_video(source, moving_frames(3), tags=tags, stream_tags={"lens": "50 mm"})
        assert upscale_video(source, tmp_path / "out.mkv", twice).notes == ()
        report = upscale_video(source, tmp_path / "out.mp4", twice)
        assert report.notes == ("left out: tags that .mp4 cannot hold: lens, mood, weather",)

    def test_a_timecode_is_kept_and_not_called_lost(self, tmp_path: Path) -> None:
        source = tmp_path / "in.mov"
        write_video(source, moving_frames(3), stream_tags={"timecode": "01:02:03:04"})
        for name in ("out.mov", "out.mp4", "out.mkv"):
            assert upscale_video(source, tmp_path / name, twice).notes == ()
            with av.open(str(tmp_path / name)) as container:
                tags = container.streams.video[0].metadata
            assert {key.lower(): value for key, value in tags.items()}["timecode"] == "01:02:03:04"

    def test_chapters_of_mp4_are_copied(self, tmp_path: Path) -> None:
        source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
        chapter = {
            "id": 0,
            "start": 0,
            "end": 500,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": "One"},
        }
        write_video(source, moving_frames(30), chapters=[chapter])
        # Its track of the names is none that a player shows, or that would be missed.
        assert upscale_video(source, target, twice).notes == ()
        assert read_video(target).chapters == [(0, Fraction(1, 2), "One")]

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_a_cover_picture_is_copied(self, tmp_path: Path, suffix: str) -> None:
        source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
        cover = plain_frame([90, 100, 110], 32, 32, "yuvj420p")
        write_video(source, moving_frames(9), cover=cover)
        report = upscale_video(source, target, twice)
        assert (report.frames, report.notes) == (9, ())
        with av.open(str(source)) as old, av.open(str(target)) as new:
            pictures = [bytes(next(file.demux(file.streams.video[1]))) for file in (old, new)]
            assert new.streams.video[1].disposition == av.stream.Disposition.attached_pic
        assert pictures[0] == pictures[1]

    def test_what_an_edit_list_hides_stays_hidden(self, tmp_path: Path) -> None:
        source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
        write_video(source, moving_frames(30), times=[1000 * i - 5500 for i in range(30)], audio="aac")
        upscale_video(source, target, twice)
        before, after = read_video(source), read_video(target)
        assert before.times[0] == 0
        assert len(before.times) == 24
        assert after.times == before.times
        assert after.packets == before.packets

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_rotation_is_copied(self, tmp_path: Path, suffix: str) -> None:
        source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
        write_video(source, moving_frames(5), rotation=90)
        upscale_video(source, target, twice)
        before, after = read_video(source).frames[0], read_video(target).frames[0]
        assert abs(before.rotation) == 90
        assert after.rotation == before.rotation
        assert (after.width, after.height) == (128, 96)


class TestEncoders:
    @pytest.mark.parametrize(
        ("codec", "suffix", "pixels"),
        [
            ("libx265", ".mp4", "yuv420p10le"),
            ("libvpx-vp9", ".webm", "yuv420p"),
            ("libsvtav1", ".mp4", "yuv420p"),
            ("ffv1", ".mkv", "yuv422p"),
            ("prores_ks", ".mov", "yuv422p10le"),
            ("mpeg4", ".mp4", "yuv420p"),
        ],
    )
    def test_give_the_same_frames(self, tmp_path: Path, codec: str, suffix: str, pixels: str) -> None:
        source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
        write_video(source, moving_frames(13, 128, 96, pixels))
        upscale_video(source, target, twice, codec=codec, crf=10, part_frames=5)
        before, after = read_video(source), read_video(target)
        unit = Fraction(1, 1000) if suffix in (".webm", ".mkv") else TIME_BASE
        assert after.times == [round(t / unit) * unit for t in before.times]
        assert after.pixels == pixels
        for old, new in zip(before.frames, after.frames, strict=True):
            luma = planes(old)[0].repeat(2, 0).repeat(2, 1).astype(float)
            assert np.abs(planes(new)[0] - luma).mean() < 0.025 * luma.mean()


@pytest.mark.parametrize("size", [(32, 24), lambda width, height: (width // 2, height // 2)])
def test_the_former_function_has_widths_first(film: Path, tmp_path: Path, size: object) -> None:
    with pytest.warns(DeprecationWarning, match="upscale_video, height first"):
        from lmlt_arch.inference.video import upscale_video as former
    report = former(film, tmp_path / "out.mp4", enlarge=twice, size=size)
    assert (report.source_size, report.size) == ((64, 48), (32, 24))
    (frame, *_) = read_video(tmp_path / "out.mp4").frames
    assert (frame.width, frame.height) == (32, 24)
