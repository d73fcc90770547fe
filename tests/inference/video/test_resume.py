"""Videos whose making was ended: what is done is kept, and goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.small.networks import SMALL
from torch import Tensor

from lmlt_arch.cli import main
from lmlt_arch.files import OutputError, exclusive, lock_beside
from lmlt_arch.inference.video.upscale import VideoError, upscale_video

pytest.importorskip("av")
import av
from helpers.small.videos import moving_frames, read_video, twice, write_video

pytestmark = pytest.mark.slow

# Makes out.mp4 of film.mp4 in parts of 8 frames, taking a while for each.
SCRIPT = """
import sys, time
from pathlib import Path
from helpers.small.videos import twice
from lmlt_arch.inference.video.upscale import upscale_video

def slow(images):
    time.sleep(0.05)
    return twice(images)

upscale_video(Path("film.mp4"), Path("out.mp4"), slow, part_frames=8)
"""


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """50 frames of 64x48, with sound."""
    path = tmp_path / "film.mp4"
    write_video(path, moving_frames(50), audio="aac")
    return path


def never(images: Tensor) -> Tensor:
    raise AssertionError("all frames were upscaled by an earlier run")


class Stop(Exception):
    """Ends a run."""


def video_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def environment(repo_root: Path) -> dict[str, str]:
    paths = [os.environ.get("PYTHONPATH", ""), str(repo_root), str(repo_root / "tests")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_a_killed_run_goes_on(film: Path, tmp_path: Path, repo_root: Path) -> None:
    parts = tmp_path / ".out.mp4.parts"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment(repo_root)
    ) as process:
        while not (parts / "000002.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.mp4").exists()
    report = upscale_video(film, tmp_path / "out.mp4", twice, part_frames=8)
    assert report.resumed_from in (24, 32, 40)
    assert report.frames == 50
    upscale_video(film, tmp_path / "whole.mp4", twice, part_frames=8)
    resumed, whole = read_video(tmp_path / "out.mp4"), read_video(tmp_path / "whole.mp4")
    assert resumed.times == whole.times == read_video(film).times
    assert resumed.packets == whole.packets
    assert video_packets(tmp_path / "out.mp4") == video_packets(tmp_path / "whole.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "out.mp4", "whole.mp4"]


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_an_interrupted_run_keeps_every_frame(film: Path, tmp_path: Path, error: type[BaseException]) -> None:
    done = 0

    def interrupted(images: Tensor) -> Tensor:
        nonlocal done
        if done == 21:
            raise error
        done += 1
        return twice(images)

    target = tmp_path / "out.mkv"
    with pytest.raises(error):
        upscale_video(film, target, interrupted, part_frames=8)
    seen: list[int] = []
    report = upscale_video(film, target, twice, part_frames=8, progress=lambda n, _: seen.append(n))
    assert report.resumed_from == 21
    assert seen == list(range(21, 51))
    assert len(read_video(target).frames) == 50


def test_only_the_last_step_is_left(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"

    def in_the_way(done: int, _: int | None) -> None:
        if done == 50:
            target.mkdir()

    with pytest.raises(OutputError, match=r"cannot write .*out\.mp4: .*; what is done is kept"):
        upscale_video(film, target, twice, part_frames=8, progress=in_the_way)
    target.rmdir()
    report = upscale_video(film, target, never, part_frames=8)
    assert (report.resumed_from, report.frames, report.size) == (50, 50, (96, 128))
    assert read_video(target).times == read_video(film).times


@pytest.mark.parametrize(
    "other", [{"crf": 20}, {"identity": "other"}, {"size": (96, 72)}, {"part_frames": 9}]
)
def test_other_settings_start_again(film: Path, tmp_path: Path, other: dict[str, object]) -> None:
    target = tmp_path / "out.mkv"
    begin(film, target)
    report = upscale_video(film, target, twice, **{"part_frames": 8, **other})
    assert report.resumed_from == 0
    assert len(read_video(target).frames) == 50


def test_another_network_that_was_not_named_is_refused(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    begin(film, target)
    with pytest.raises(VideoError, match=r"came out as 256x192, earlier ones as 128x96; for another network"):
        upscale_video(film, target, lambda images: twice(twice(images)), part_frames=8)


def test_another_source_starts_again(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    begin(film, target)
    write_video(film, moving_frames(40))
    report = upscale_video(film, target, twice, part_frames=8)
    assert (report.resumed_from, report.frames) == (0, 40)


def test_a_damaged_part_is_made_again(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    begin(film, target)
    parts = tmp_path / ".out.mkv.parts"
    assert json.loads((parts / "000001.json").read_text())["width"] == 128
    (parts / "000001.json").write_text("{")
    report = upscale_video(film, target, twice, part_frames=8)
    assert (report.resumed_from, report.frames) == (8, 50)


def test_a_file_of_somebody_else_stays(film: Path, tmp_path: Path) -> None:
    folder = tmp_path / ".out.mkv.parts"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    upscale_video(film, tmp_path / "out.mkv", twice)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def begin(film: Path, target: Path) -> None:
    """Make the first 20 frames or so in parts of 8."""
    done = 0

    def stopping(images: Tensor) -> Tensor:
        nonlocal done
        done += 1
        if done > 20:
            raise Stop
        return twice(images)

    with pytest.raises(Stop):
        upscale_video(film, target, stopping, part_frames=8)
    assert (target.with_name(f".{target.name}.parts") / "000001.json").exists()


def test_a_full_disk_keeps_what_is_done(film: Path, tmp_path: Path, repo_root: Path) -> None:
    # No file may have more bytes than the whole video needs, and every part does.
    upscale_video(film, tmp_path / "whole.mp4", twice, part_frames=8)
    most = (tmp_path / "whole.mp4").stat().st_size // 2
    limited = (
        f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
        + SCRIPT.replace("time.sleep(0.05)", "")
    )
    run = subprocess.run(
        [sys.executable, "-c", limited],
        cwd=tmp_path,
        env=environment(repo_root),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "lmlt_arch.files.OutputError: cannot write out.mp4: File too large; what is done is kept, the same "
        "command goes on from there"
    )
    assert not (tmp_path / "out.mp4").exists()
    report = upscale_video(film, tmp_path / "out.mp4", never, part_frames=8)
    assert (report.resumed_from, report.frames) == (50, 50)


def test_one_process_at_a_time_makes_a_video(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with pytest.raises(Stop):
        upscale_video(film, target, stopping_after(20), part_frames=8)
    parts = sorted((tmp_path / ".out.mp4.parts").iterdir())
    with (
        exclusive(lock_beside(target), "upscale", "wait"),
        pytest.raises(OutputError, match=r"another upscale of a video to .*out\.mp4 is running: process \d+"),
    ):
        upscale_video(film, target, twice, part_frames=8)
    assert sorted((tmp_path / ".out.mp4.parts").iterdir()) == parts
    assert upscale_video(film, target, twice, part_frames=8).resumed_from == 20


def stopping_after(frames: int) -> Callable[[Tensor], Tensor]:
    left = [frames]

    def upscale(images: Tensor) -> Tensor:
        if not left[0]:
            raise Stop
        left[0] -= 1
        return twice(images)

    return upscale


def test_parts_of_a_finished_video_are_swept(film: Path, tmp_path: Path) -> None:
    model, target = tmp_path / "net.pth", tmp_path / "out" / "film.mp4"
    parts = target.with_name(".film.mp4.parts")
    torch.save(SMALL["ESC"].build().state_dict(), model)
    target.parent.mkdir()
    command = ["upscale", str(film), "-o", str(target.parent), "--model", str(model)]
    for newer in (True, False):
        # As if a run had been killed while it made a video again, and right after it was finished.
        parts.mkdir(exist_ok=True)
        (parts / "job.json").write_text("{}")
        target.write_bytes(b"a whole video")
        moment = target.stat().st_mtime_ns
        os.utime(parts / "job.json", ns=(moment + newer, moment + newer))
        assert main(command) == 0
        assert parts.exists() is newer
    assert target.read_bytes() == b"a whole video"
