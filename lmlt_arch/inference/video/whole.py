"""Opening a video, and whether it is whole by what its container says of itself."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from lmlt_arch.inference.video.outcome import VideoError, reason

# Seconds that a container's own length may be beyond its last frame.
_DURATION_SLACK = 0.25
# Seconds that decoding times may go back, in a recording that was disturbed.
_JUMP = 1.0
# The file properties of ASF (WMV): after their name the size of that object, an identifier, the file's size,
# when it was made, packets, length with and without what is buffered (in 100 ns), that (in ms), flags.
_ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
_ASF_FIELDS = "<8x16xQ8x8xQ8xQI"
_ASF_LIVE = 1
_HEADER_BYTES = 2**16
# A page of Ogg: its name and version; flags, 20 bytes, how many pieces, their sizes, the pieces; in all at
# most so long.
_OGG_PAGE, _OGG_LAST = b"OggS\0", 4
_OGG_PAGE_BYTES = 65307


def open_video(path: Path) -> InputContainer:
    """Open a file for reading.

    Raises:
        VideoError: it is missing, empty, or nothing that FFmpeg reads.
    """
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    try:
        # An absolute path is never taken for a URL; what the file itself refers to must be a file, too.
        return av.open(
            str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({reason(error)})") from error
    except FFmpegError as error:
        raise VideoError(
            f"{path}: not a video, or its beginning or end is missing ({reason(error)})"
        ) from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream to upscale: the first that is no cover picture.

    Raises:
        VideoError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    raise VideoError(f"{path}: holds no video stream that FFmpeg can decode")


def demuxed(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """The packets of some streams, at the end an empty one of each."""
    try:
        yield from container.demux(*streams)
    except IndexError:
        # Having given all packets, PyAV stumbles over streams that appeared after the beginning.
        return


def count_packets(path: Path) -> int:
    """Packets of the video stream, having made sure that the file is whole and of one piece.

    Raises:
        VideoError: it is not.
    """
    with open_video(path) as container:
        stream = video_stream(container, path)
        count, seen, end, last, cut = 0, 0, 0.0, -math.inf, False
        try:
            for packet in demuxed(container, *container.streams):
                if not packet.size:
                    continue
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index == stream.index:
                    seen += 1
                    count += not packet.is_discard
                    cut = packet.is_corrupt
                    decoded_at = last if packet.dts is None else float(packet.dts * packet.time_base)
                    if decoded_at < last - _JUMP:
                        raise VideoError(
                            f"{path}: its clock jumps from {last:.1f} back to {decoded_at:.1f} seconds after "
                            f"{count - 1} frames, as in files put together; upscale the pieces one by one"
                        )
                    last = decoded_at
        except FFmpegError as error:
            raise VideoError(f"{path}: damaged after {count} frames ({reason(error)})") from error
        duration = _said_duration(container, stream)
        cut = cut or seen < _said_packets(container, stream) or end < duration - _DURATION_SLACK
        cut = cut or _misses_its_end(container, path)
    if cut:
        whole = f" of {duration:.1f}" if duration else ""
        raise VideoError(
            f"{path}: cut short, it ends after {end:.1f}{whole} seconds and {count} frames; get it anew, or "
            "make what there is a file of its own: ffmpeg -i IN -c copy OUT"
        )
    return count


def _said_packets(container: InputContainer, stream: VideoStream) -> int:
    """How many packets a file's own table has; 0 if it has none."""
    return len(stream.index_entries) if "mov" in container.format.name else 0


def _misses_its_end(container: InputContainer, path: Path) -> bool:
    """Whether a file is smaller than its beginning says, or lacks the page that says that it is the last."""
    if container.format.name == "asf":
        return path.stat().st_size < _said_by_asf(path)[0]
    if container.format.name == "ogg":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _OGG_PAGE_BYTES))
            _, _, page = file.read().rpartition(_OGG_PAGE)
        if len(page) < 22 or not page[0] & _OGG_LAST:
            return True
        return len(page) < 22 + page[21] + sum(page[22 : 22 + page[21]])
    return False


def _said_by_asf(path: Path) -> tuple[int, float]:
    """Bytes and seconds that the beginning of ASF promises; none of one that is sent as it is made."""
    with path.open("rb") as file:
        _, found, fields = file.read(_HEADER_BYTES).partition(_ASF_PROPERTIES)
    if not found or len(fields) < struct.calcsize(_ASF_FIELDS):
        return 0, 0.0
    size, length, buffered, flags = struct.unpack_from(_ASF_FIELDS, fields)
    return (0, 0.0) if flags & _ASF_LIVE else (size, length / 1e7 - buffered / 1e3)


def _said_duration(container: InputContainer, stream: VideoStream) -> float:
    """How many seconds a file's beginning promises; 0 if it says nothing that can be relied on."""
    if "matroska" in container.format.name or container.format.name == "flv":
        return (container.duration or 0) / av.time_base
    if container.format.name == "avi" and stream.time_base is not None:
        return float(stream.frames * stream.time_base)
    if container.format.name == "asf":
        return _said_by_asf(Path(container.name))[1]
    return 0.0
