"""Reading a video: what it is, whether it is whole, and its frames in order."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lmlt_arch.inference.video.color import Color, color_of
from lmlt_arch.inference.video.losses import Losses, logged_errors
from lmlt_arch.inference.video.outcome import VideoError, reason
from lmlt_arch.inference.video.side_data import lost, side_data
from lmlt_arch.inference.video.whole import count_packets, demuxed, open_video, video_stream

# Containers of broadcasts and discs, whose frames follow each other at one rate: some are missing where the
# time to the next is longer than both of these. Elsewhere a picture may stand as long as it likes.
_STEADY = ("mpeg", "mpegts")
_GAP_FRAMES, _GAP_SECONDS = 3, Fraction(1, 5)


@dataclass(frozen=True)
class SourceVideo:
    """What has to be known of a video before its frames are read.

    Attributes:
        path: the file.
        index: which of its streams.
        packets: about how many frames it has.
        time_base: seconds in a unit of timestamps.
        rate: average frames a second.
        width: of the stored frames, before any rotation.
        height: of the stored frames.
        pixels: pixel format.
        color: how its numbers are meant.
        aspect: width of a pixel over its height, or None.
        display_matrix: rotation and mirroring on display, 9 numbers, or None.
        lost: what goes with its frames and cannot be kept.
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


def inspect_video(path: Path) -> SourceVideo:
    """Read a file through once, without decoding more than a frame.

    Raises:
        VideoError: no video, cut short, interlaced, or of a color matrix that is not supported.
    """
    packets = count_packets(path)
    with open_video(path) as container:
        stream = video_stream(container, path)
        first = next((timed.frame for timed in _decoded(container, stream, path, Losses())), None)
        if first is None:
            raise VideoError(f"{path}: holds no frame that can be decoded")
        assert stream.time_base is not None
        beside = side_data(first)
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
            display_matrix=_display_matrix(beside.get("DISPLAYMATRIX")),
            lost=[*lost(beside), *(["transparency"] if _is_transparent(stream, first) else [])],
        )


def read_frames(
    source: SourceVideo, *, known: Sequence[int], losses: Losses
) -> Generator[TimedFrame, None, None]:
    """The frames of a video in the order of display.

    Args:
        source: the video.
        known: timestamps of the first frames, which are decoded but not returned.
        losses: collects what cannot be kept.

    Raises:
        VideoError: damage, a change of size, interlaced frames, or other frames than the known ones.
    """
    with logged_errors(losses.errors), open_video(source.path) as container:
        stream = video_stream(container, source.path)
        # All in this thread: others would wait for Python's lock to log an error, and this one for them.
        # A network takes longer than any decoder.
        stream.codec_context.thread_count = 1
        # Checksums that a stream may have: PNG's, and that of each picture of HEVC.
        stream.codec_context.options = {"err_detect": "crccheck"}
        count = 0
        for timed in _decoded(container, stream, source.path, losses):
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
                    f"{source.path}: frame {count} is not the one that an earlier run saw; start anew by "
                    "deleting the folder of unfinished parts"
                )
            count += 1
        if count < len(known):
            raise VideoError(f"{source.path}: ends after {count} frames; an earlier run saw {len(known)}")


def _decoded(
    container: InputContainer, stream: VideoStream, path: Path, losses: Losses
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
                losses.errors.append(f"{container.format.name}: a packet after frame {count} is damaged")
            for frame in packet.decode():
                if frame.interlaced_frame:
                    raise VideoError(
                        f"{path}: frame {count} is interlaced; deinterlace it first, for instance with "
                        "ffmpeg -i IN -vf bwdif=send_frame -crf 12 -c:a copy OUT"
                    )
                pts = frame.pts
                if pts is None or (last is not None and pts <= last):
                    pts = 0 if last is None else last + (usual if pts is None else 1)
                    losses.moved += 1
                if frame.is_corrupt:
                    losses.concealed.append(count)
                if steady and last is not None and pts - last > longest:
                    losses.gaps.append(count)
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
    """Whether there is alpha in a stream's frames, or beside them: decoders of VP8 and VP9 pass it over."""
    said = {name.lower(): value for name, value in stream.metadata.items()}.get("alpha_mode", "0")
    return said != "0" or any(component.is_alpha for component in frame.format.components)


def _display_matrix(data: bytes | None) -> tuple[int, ...] | None:
    """A frame's rotation, without the shift that belongs to its size."""
    if data is None:
        return None
    a, b, u, c, d, v, _, _, w = struct.unpack("=9i", data)
    return a, b, u, c, d, v, 0, 0, w
