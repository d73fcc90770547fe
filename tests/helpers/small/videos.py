"""Tiny videos made with PyAV, and the contents of a video file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition, Stream
from numpy.typing import NDArray
from torch import Tensor

from lmlt_arch.inference.video.color import bit_depth

_FORMATS = {
    **{".mkv": "matroska", ".mp4": "mp4", ".mov": "mov", ".webm": "webm"},
    **{".ts": "mpegts", ".avi": "avi", ".flv": "flv", ".wmv": "asf", ".ogv": "ogg"},
}
TIME_BASE = Fraction(1, 30000)

# Rows of the matrix that makes Y, Cb and Cr of RGB, by AVColorSpace: ITU-R BT.709, BT.601 and BT.2020 as they
# print them.
MATRICES = {
    1: [[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]],
    6: [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
    9: [[0.2627, 0.6780, 0.0593], [-0.13963, -0.36037, 0.5], [0.5, -0.459786, -0.040214]],
}


def twice(images: Tensor) -> Tensor:
    """Every pixel four times."""
    return images.repeat_interleave(2, 2).repeat_interleave(2, 3)


def codes_of(rgb: Sequence[float], matrix: int, *, full: bool, bits: int = 8) -> NDArray[np.float64]:
    """Y, Cb, Cr of a color in [0, 1], not rounded."""
    y, cb, cr = np.array(MATRICES[matrix]) @ rgb
    if full:
        most, middle = 2**bits - 1, 2 ** (bits - 1)
        return np.array([y * most, cb * most + middle, cr * most + middle])
    return np.array([219 * y + 16, 224 * cb + 128, 224 * cr + 128]) * 2 ** (bits - 8)


def color_of_codes(codes: Sequence[float], matrix: int, *, full: bool, bits: int = 8) -> NDArray[np.float64]:
    """The color in [0, 1] of Y, Cb, Cr."""
    y, cb, cr = codes
    if full:
        most, middle = 2**bits - 1, 2 ** (bits - 1)
        signal = [y / most, (cb - middle) / most, (cr - middle) / most]
    else:
        unit = 2 ** (bits - 8)
        signal = [(y / unit - 16) / 219, (cb / unit - 128) / 224, (cr / unit - 128) / 224]
    return np.linalg.solve(np.array(MATRICES[matrix]), signal)


def planes(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """The memory of a planar frame."""
    kind = "<u2" if bit_depth(frame.format) > 8 else "u1"
    return [
        np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]


def plain_frame(codes: Sequence[float], width: int, height: int, pixels: str = "yuv420p") -> av.VideoFrame:
    """A frame of one color."""
    frame = av.VideoFrame(width, height, pixels)
    for plane, code in zip(planes(frame), codes, strict=True):
        plane[:] = round(code)
    return frame


def moving_frames(
    count: int, width: int = 64, height: int = 48, pixels: str = "yuv420p"
) -> list[av.VideoFrame]:
    """Smooth pictures, each another one."""
    frames = []
    for number in range(count):
        frame = av.VideoFrame(width, height, pixels)
        for i, plane in enumerate(planes(frame)):
            y, x = np.mgrid[: plane.shape[0], : plane.shape[1]] * (2 if i and plane.shape[1] < width else 1)
            wave = np.sin((x + 3 * number) / 9 + i) + np.cos((y - 2 * number) / 7 + i)
            # Little chroma, for no color to lie outside of RGB.
            plane[:] = (128 + (8 if i else 30) * wave) * 2 ** (bit_depth(frame.format) - 8)
        frames.append(frame)
    return frames


def write_video(
    path: Path,
    frames: Sequence[av.VideoFrame],
    *,
    times: Sequence[int] | None = None,
    rate: Fraction = Fraction(30),
    time_base: Fraction = TIME_BASE,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio: str | None = None,
    audio_start: Fraction = Fraction(0),
    subtitles: str | None = None,
    rotation: int = 0,
    attachment: bytes | None = None,
    chapters: Sequence[dict[str, Any]] = (),
    cover: av.VideoFrame | None = None,
    tags: dict[str, str] | None = None,
    stream_tags: dict[str, str] | None = None,
    **context: Any,
) -> None:
    """Write frames, and other streams beside them.

    Args:
        path: its suffix names the container.
        frames: all of one size and pixel format.
        times: timestamps in units of `time_base`; default: by `rate`.
        rate: average frames a second.
        time_base: seconds in a unit of time.
        codec: encoder.
        options: of the encoder.
        container_options: of the container.
        audio: encoder of a sound track as long as the video.
        audio_start: when it begins, in seconds.
        subtitles: codec of a subtitle stream, "subrip" or "mov_text".
        rotation: on display, in degrees.
        attachment: a font.
        chapters: as PyAV wants them.
        cover: a picture that stands for the video.
        tags: of the file.
        stream_tags: of the video.
        context: attributes of the encoder, such as colors.
    """
    times = times or [round(i / rate / time_base) for i in range(len(frames))]
    with av.open(str(path), "w", format=_FORMATS[path.suffix], options=container_options or {}) as container:
        container.metadata.update({"title": "A small film", **(tags or {})})
        video = container.add_stream(
            codec, rate, width=frames[0].width, height=frames[0].height, time_base=time_base
        )
        video.metadata.update(stream_tags or {})
        video.codec_context.pix_fmt = frames[0].format.name
        video.codec_context.options = {"crf": "4"} if options is None else options
        for attribute, value in context.items():
            setattr(video.codec_context, attribute, value)
        if rotation:
            video.set_display_rotation(rotation)
        sound = container.add_stream(audio, 48000) if audio is not None else None
        if sound is not None:
            sound.metadata["language"] = "fra"
            sound.disposition = Disposition.default | Disposition.dub
        text = None
        if subtitles is not None:
            text = container.add_mux_stream(subtitles, time_base=Fraction(1, 1000))
            text.metadata["language"] = "deu"
            text.disposition = Disposition.forced | Disposition.default
        if attachment is not None:
            container.add_attachment("small.ttf", "font/ttf", attachment)
        if cover is not None:
            picture = container.add_stream("mjpeg", 1, width=cover.width, height=cover.height)
            picture.codec_context.pix_fmt = cover.format.name
            picture.disposition = Disposition.attached_pic
            container.mux([*picture.encode(cover), *picture.encode(None)])
        if chapters:
            container.set_chapters(chapters)
        for frame, pts in zip(frames, times, strict=True):
            frame.pts, frame.time_base = pts, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        seconds = float(len(frames) / rate)
        if sound is not None:
            _write_sound(container, sound, seconds, audio_start)
        if text is not None:
            _write_subtitles(container, text, seconds, framed=subtitles == "mov_text")


def _write_sound(container: OutputContainer, stream: AudioStream, seconds: float, start: Fraction) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, (1, 2 * round(seconds * 48000))).astype("<i2")
    resampler = av.AudioResampler(
        stream.codec_context.format, "stereo", 48000, stream.codec_context.frame_size
    )
    frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="stereo")
    frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
    frame.pts = round(start * 48000)
    for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
        container.mux(stream.encode(piece))


def _write_subtitles(container: OutputContainer, stream: Stream, seconds: float, *, framed: bool) -> None:
    for number in range(3):
        text = f"Line {number}".encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text if framed else text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = round(seconds * 1000 * (number + 0.2) / 3)
        packet.duration = round(seconds * 1000 / 6)
        container.mux(packet)


@dataclass
class Contents:
    """What is in a file: its video decoded, packets of everything else as they are."""

    pixels: str
    rate: Fraction
    frames: list[av.VideoFrame]
    times: list[Fraction]
    packets: dict[str, list[tuple[Fraction, bytes]]]
    languages: dict[str, str | None]
    dispositions: dict[str, Disposition]
    names: list[str]
    title: str | None
    chapters: list[tuple[Fraction, Fraction, str | None]]
    colors: tuple[int, int, int, int]
    aspect: Fraction | None
    attachments: list[bytes] = field(default_factory=list)


def read_video(path: Path) -> Contents:
    """Everything that is in a file."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        others = [stream for stream in container.streams if stream.type in ("audio", "subtitle")]
        frames: list[av.VideoFrame] = []
        packets: dict[str, list[tuple[Fraction, bytes]]] = {stream.type: [] for stream in others}
        for packet in container.demux(video, *others):
            if packet.stream is video:
                frames += packet.decode()
            elif packet.size:
                packets[packet.stream.type].append((packet.pts * packet.time_base, bytes(packet)))
        context = video.codec_context
        return Contents(
            pixels=context.pix_fmt,
            rate=video.average_rate,
            frames=frames,
            times=[frame.pts * frame.time_base for frame in frames],
            packets=packets,
            languages={stream.type: stream.language for stream in others},
            dispositions={stream.type: stream.disposition for stream in others},
            names=[stream.codec_context.name for stream in container.streams if stream.codec_context],
            title=container.metadata.get("title"),
            chapters=[
                (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"].get("title"))
                for c in container.chapters()
            ],
            colors=(context.color_primaries, context.color_trc, context.colorspace, context.color_range),
            aspect=video.sample_aspect_ratio,
            attachments=[stream.data for stream in container.streams.attachments],
        )
