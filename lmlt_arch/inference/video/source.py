"""Reading a video: its properties, its frames in order, and the damage found in them."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av.logging
from av.container import InputContainer
from av.error import FFmpegError
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lmlt_arch.inference.video.color import Color, color_of
from lmlt_arch.inference.video.demuxing import count_packets, demuxed, open_video, video_stream
from lmlt_arch.inference.video.report import VideoError, reason
from lmlt_arch.inference.video.side_data import lost_side_data, side_data

# Containers of broadcasts and discs have a constant rate: frames are missing where the time to the next one
# is longer than both of these. In other containers a frame may last any time.
_STEADY = ("mpeg", "mpegts")
_GAP_FRAMES, _GAP_SECONDS = 3, Fraction(1, 5)


@dataclass(frozen=True)
class SourceVideo:
    """The properties of a video that are read before its frames.

    Attributes:
        path: the file.
        index: number of the video stream.
        packets: about how many frames it has.
        time_base: seconds of one unit of its timestamps.
        rate: average frames a second.
        width: of the stored frames, before any rotation.
        height: of the stored frames.
        pixels: pixel format.
        color: its color space.
        aspect: width of a pixel over its height, or None.
        display_matrix: rotation and mirroring on display, 9 numbers, or None.
        lost: side data of its frames that cannot be kept.
    """

    path: Path
    index: int
    packets: int
    time_base: Fraction
    rate: Fraction
    width: int
    height: int
    pixels: VideoFormat
    color: Color
    aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    lost: list[str]


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame, its timestamp and how long it is shown, in units of the stream's time base."""

    frame: VideoFrame
    pts: int
    duration: int


@dataclass
class Damage:
    """What is damaged or missing in a video, found while it is decoded.

    Attributes:
        concealed: numbers of frames whose damage the decoder concealed.
        moved: how many frames had no timestamp, or one not after the frame before.
        errors: what FFmpeg logged as errors.
        gaps: numbers of frames before which others are missing.
    """

    concealed: list[int] = field(default_factory=list)
    moved: int = 0
    errors: list[str] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)

    def notes(self) -> list[str]:
        """One line for each kind of damage."""
        notes = []
        if self.concealed:
            notes.append(
                f"damaged frames, fixed by the decoder: {len(self.concealed)}, first {self.concealed[0]}"
            )
        elif self.errors:
            notes.append(
                f"damaged, frames may be wrong or missing; errors met: {len(self.errors)}, "
                f"first {self.errors[0]!r}"
            )
        if self.gaps:
            notes.append(
                f"places where frames are missing: {len(self.gaps)}, first before frame {self.gaps[0]}"
            )
        if self.moved:
            notes.append(f"frames whose time was missing or not after the one before: {self.moved}")
        return notes


@contextmanager
def logged_errors(errors: list[str]) -> Iterator[None]:
    """Collect the errors that FFmpeg logs in this thread, for which it raises nothing."""
    level, once = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # Otherwise an error that is equal to the last one of the file before would be left out.
    av.logging.set_skip_repeated(False)
    try:
        # Errors of other threads are raised where they matter.
        with av.logging.Capture(local=False), av.logging.Capture() as logs:
            try:
                yield
            finally:
                errors += [
                    f"{name}: {' '.join(text.split())}"
                    for severity, name, text in logs
                    if severity <= av.logging.ERROR
                ]
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(once)


def inspect_video(path: Path) -> SourceVideo:
    """Read all packets of a file once, and decode its first frame.

    Raises:
        VideoError: no video, cut short, interlaced, or of a color matrix that is not supported.
    """
    packets = count_packets(path)
    with open_video(path) as container:
        stream = video_stream(container, path)
        first = next((timed.frame for timed in _decoded(container, stream, path, Damage())), None)
        if first is None:
            raise VideoError(f"{path}: holds no frame that can be decoded")
        assert stream.time_base is not None
        entries = side_data(first)
        return SourceVideo(
            path=path,
            index=stream.index,
            packets=packets,
            time_base=stream.time_base,
            rate=stream.average_rate or stream.guessed_rate or Fraction(25),
            width=first.width,
            height=first.height,
            pixels=first.format,
            color=_color(first, path),
            aspect=stream.sample_aspect_ratio or None,
            display_matrix=_display_matrix(entries.get("DISPLAYMATRIX")),
            lost=[*lost_side_data(entries), *(["transparency"] if _is_transparent(stream, first) else [])],
        )


def read_frames(
    source: SourceVideo, *, known: Sequence[int], damage: Damage
) -> Generator[TimedFrame, None, None]:
    """The frames of a video in the order of display.

    Args:
        source: the video.
        known: timestamps of the first frames, which are decoded but not returned.
        damage: collects the damage that is found.

    Raises:
        VideoError: damage, a change of size, interlaced frames, or other frames than the known ones.
    """
    with logged_errors(damage.errors), open_video(source.path) as container:
        stream = video_stream(container, source.path)
        # One thread: others would wait for Python's lock to log an error, and this one for them. The network
        # takes longer than any decoder.
        stream.codec_context.thread_count = 1
        # Check the checksums that a stream may have: PNG's, and that of each picture of HEVC.
        stream.codec_context.options = {"err_detect": "crccheck"}
        count = 0
        for timed in _decoded(container, stream, source.path, damage):
            frame = timed.frame
            if (frame.width, frame.height) != (source.width, source.height):
                raise VideoError(
                    f"{source.path}: changes from {source.width}x{source.height} to "
                    f"{frame.width}x{frame.height} after {count} frames; split it there first"
                )
            if _color(frame, source.path) != source.color:
                raise VideoError(
                    f"{source.path}: changes its colors after {count} frames; split it there first"
                )
            if count >= len(known):
                yield timed
            elif timed.pts != known[count]:
                raise VideoError(
                    f"{source.path}: frame {count} is not the one that an earlier run saw; start again by "
                    "deleting the folder of unfinished parts"
                )
            count += 1
        if count < len(known):
            raise VideoError(f"{source.path}: ends after {count} frames; an earlier run saw {len(known)}")


def _decoded(
    container: InputContainer, stream: VideoStream, path: Path, damage: Damage
) -> Iterator[TimedFrame]:
    assert stream.time_base is not None
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    usual = max(1, round(1 / (rate * stream.time_base)))
    longest = max(_GAP_FRAMES * usual, round(_GAP_SECONDS / stream.time_base))
    steady = container.format.name in _STEADY
    count, last = 0, None
    try:
        for packet in demuxed(container, stream):
            if packet.is_corrupt:
                damage.errors.append(f"{container.format.name}: a packet after frame {count} is damaged")
            for frame in packet.decode():
                if frame.interlaced_frame:
                    raise VideoError(
                        f"{path}: frame {count} is interlaced; deinterlace it first, for instance with "
                        "ffmpeg -i IN -vf bwdif=send_frame -crf 12 -c:a copy OUT"
                    )
                pts = frame.pts
                if pts is None or (last is not None and pts <= last):
                    pts = 0 if last is None else last + (usual if pts is None else 1)
                    damage.moved += 1
                if frame.is_corrupt:
                    damage.concealed.append(count)
                if steady and last is not None and pts - last > longest:
                    damage.gaps.append(count)
                yield TimedFrame(frame, pts, frame.duration or usual)
                count, last = count + 1, pts
    except FFmpegError as error:
        raise VideoError(f"{path}: damaged after {count} whole frames ({reason(error)})") from error


def _color(frame: VideoFrame, path: Path) -> Color:
    try:
        return color_of(frame)
    except ValueError as error:
        raise VideoError(f"{path}: {error}") from error


def _is_transparent(stream: VideoStream, frame: VideoFrame) -> bool:
    """Whether frames have alpha, or a second stream of it, which decoders of VP8 and VP9 skip."""
    declared = {name.lower(): value for name, value in stream.metadata.items()}.get("alpha_mode", "0")
    return declared != "0" or any(component.is_alpha for component in frame.format.components)


def _display_matrix(data: bytes | None) -> tuple[int, ...] | None:
    """A frame's rotation, without the shift that belongs to its size."""
    if data is None:
        return None
    a, b, u, c, d, v, _, _, w = struct.unpack("=9i", data)
    return a, b, u, c, d, v, 0, 0, w
