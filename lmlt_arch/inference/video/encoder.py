"""Encoding of upscaled frames: settings, the choice of a pixel format, and files of parts."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.codec.codec import Codec, UnknownCodecError
from av.codec.context import Flags, ThreadType
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from lmlt_arch.inference.video.color import (
    Color,
    FromRGB,
    bit_depth,
    color_of,
    planar_yuv,
    subsampling,
)
from lmlt_arch.inference.video.parts import Part
from lmlt_arch.inference.video.report import VideoError

# The same pixels in another layout, for encoders of graphics cards that want that one.
_INTERLEAVED = {"yuv420p10le": "p010le", "yuv422p10le": "p210le"}
# Encoders with the option `crf`.
_WITH_CRF = {"libaom-av1", "libsvtav1", "libvpx", "libvpx-vp9", "libx264", "libx265"}
# Options for encoders that otherwise write to the terminal.
_QUIET = {"libx265": {"x265-params": "log-level=error"}}

# Columns and lines of luma for a chroma sample, coarsest first; bits of a component.
_CHROMAS = ((2, 2), (2, 1), (1, 1))
_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Encoding:
    """The settings of an encoder.

    Attributes:
        codec: an encoder of FFmpeg.
        crf: quality, lower is better, where the encoder has such a scale.
        pixels: name of the pixel format.
        width: of the frames.
        height: of the frames.
        time_base: seconds of one unit of timestamps.
        rate: average frames a second.
        color: the color space of the frames.
        aspect: width of a pixel over its height, or None.
    """

    codec: str
    crf: int
    pixels: str
    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    color: Color
    aspect: Fraction | None

    def add_to(self, container: OutputContainer) -> VideoStream:
        """Add a stream with these settings to a file that is about to be written.

        Raises:
            ValueError: the container does not hold the codec.
        """
        stream = container.add_stream(
            self.codec, self.rate, width=self.width, height=self.height, time_base=self.time_base
        )
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.pix_fmt = self.pixels
        context.color_primaries = self.color.primaries
        context.color_trc = self.color.transfer
        context.colorspace = self.color.matrix
        context.color_range = ColorRange.JPEG if self.color.full else ColorRange.MPEG
        if self.aspect is not None:
            context.sample_aspect_ratio = self.aspect
        # Threads by frame, as in ffmpeg: PyAV's default, by slice, needs more bits.
        context.thread_type = ThreadType.AUTO
        # A global header, so that the packets of all parts fit the finished file.
        context.flags |= Flags.global_header
        if self.codec in _WITH_CRF:
            context.options = {"crf": str(self.crf), **_QUIET.get(self.codec, {})}
        elif self.codec.endswith("_nvenc"):
            context.options = {"rc": "vbr", "cq": str(self.crf)}
        return stream


def choose_pixels(codec: str, source: VideoFormat, width: int, height: int) -> tuple[str, str | None]:
    """Choose the pixel format in which to encode.

    Chroma and depth of the source where the encoder has them, else finer chroma and then coarser, more depth
    and then less; chroma at full size where it would have to be cut through an odd width or height.

    Args:
        codec: an encoder of FFmpeg.
        source: pixel format of the source.
        width: of the frames to encode.
        height: of the frames to encode.

    Returns:
        Its name, and a note if it holds less than the source's.

    Raises:
        ValueError: there is no such encoder, or it cannot encode this size.
    """
    try:
        offered = Codec(codec, "w").video_formats
    except UnknownCodecError as error:
        raise ValueError(f"FFmpeg has no encoder {codec!r} here; libx264 is the usual one") from error
    names = None if offered is None else {pixels.name for pixels in offered}
    wanted, bits = _chroma_of(source), bit_depth(source)
    fitting = [chroma for chroma in _CHROMAS if not (width % chroma[0] or height % chroma[1])]
    nearest = _CHROMAS.index(wanted)
    chromas = sorted(fitting, key=lambda c: (c > wanted, abs(_CHROMAS.index(c) - nearest)))
    depths = sorted(_DEPTHS, key=lambda depth: (depth < bits, abs(depth - bits)))
    for depth in depths:
        for chroma in chromas:
            name = planar_yuv(chroma, depth)
            for pixels in (name, _INTERLEAVED.get(name, name)):
                if names is None or pixels in names:
                    less = f"{codec} encodes {name}, less than the source's {source.name}"
                    return pixels, less if depth < bits or chroma > wanted else None
    raise ValueError(
        f"{codec} cannot encode {width}x{height} here; choose an even width and height, or another encoder"
    )


def _chroma_of(pixels: VideoFormat) -> tuple[int, int]:
    """The coarsest chroma subsampling of `_CHROMAS` that holds a format's chroma."""
    if pixels.is_rgb or pixels.has_palette or pixels.is_bayer:
        return 1, 1
    if len(pixels.components) < 3:
        return 2, 2
    across, down = subsampling(pixels)
    return (1, 1) if across == 1 else (2, min(down, 2))


def color_after_encoding(encoding: Encoding, container: str) -> Color:
    """The color space that players will read from an encoder's frames in a container.

    Args:
        encoding: the settings of the encoder.
        container: FFmpeg's name of the container.

    Returns:
        That of a gray frame that was encoded and decoded again; that of the settings if this fails.
    """
    file = io.BytesIO()
    gray = FromRGB(encoding.pixels, encoding.color)
    frame = gray.frame(
        [plane[0] for plane in gray.planes(torch.full((1, 3, encoding.height, encoding.width), 0.5))]
    )
    try:
        with av.open(file, "w", format=container) as written:
            stream = encoding.add_to(written)
            frame.pts, frame.time_base = 0, encoding.time_base
            with own_priority():
                packets = [*stream.encode(frame), *stream.encode(None)]
            written.mux(packets)
        file.seek(0)
        with av.open(file, "r") as read:
            return next((color_of(frame) for frame in read.decode(video=0)), encoding.color)
    except (FFmpegError, ValueError):
        return encoding.color


@contextmanager
def own_priority() -> Iterator[None]:
    """Keep the scheduling of this thread.

    SVT-AV1, run by root, gives the thread that opens it real-time priority, and threads that this one makes
    inherit it. Encoders and decoders that wait busily then block all others for good.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, priority)


class PartWriter:
    """Encodes frames into a file of its own, which begins with a key frame.

    Args:
        path: the file.
        encoding: the settings of the encoder.
    """

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self.path = path
        self.frames = 0
        self._encoding = encoding
        self._container = av.open(str(path), "w", format=_part_format(encoding))
        self._stream = encoding.add_to(self._container)
        self._coded: list[int] = []
        self._last_duration = 0

    def write(self, frame: VideoFrame, pts: int, duration: int) -> None:
        """Encode a frame; both times are in units of the encoding's time base."""
        frame.time_base = self._encoding.time_base
        frame.pts, frame.duration = pts, duration
        self.frames += 1
        self._last_duration = duration
        with own_priority():
            packets = self._stream.encode(frame)
        self._mux(packets)

    def close(self) -> Part:
        """Finish the file.

        Raises:
            VideoError: the number of packets is not that of the frames.
        """
        try:
            self._mux(self._stream.encode(None))
            self._container.close()
        except BaseException:
            self.abandon()
            raise
        if len(self._coded) != self.frames:
            raise VideoError(
                f"{self._encoding.codec} made {len(self._coded)} packets of {self.frames} frames; "
                "choose another encoder"
            )
        return Part(self._encoding.width, self._encoding.height, self._coded, self._last_duration)

    def abandon(self) -> None:
        """Close and remove the file."""
        with suppress(FFmpegError):
            self._container.close()
        self.path.unlink(missing_ok=True)

    def _mux(self, packets: Sequence[Packet[VideoStream]]) -> None:
        for packet in packets:
            # Before muxing, which converts it to the units of the file.
            assert packet.pts is not None
            self._coded.append(packet.pts)
            self._container.mux(packet)


def _part_format(encoding: Encoding) -> str:
    """A container that holds the encoder's packets unchanged."""
    for name in ("nut", "mov"):
        with io.BytesIO() as nowhere, av.open(nowhere, "w", format=name) as container:
            if encoding.codec in container.supported_codecs:
                return name
    raise ValueError(f"no container for the parts of a video takes {encoding.codec}")
