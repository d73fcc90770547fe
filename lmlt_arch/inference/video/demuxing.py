"""Opening a video, reading its packets, and checking that the file is complete."""

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

from lmlt_arch.inference.video.report import VideoError, reason

# Seconds by which the length that a container declares may exceed its last frame.
_DURATION_SLACK = 0.25
# Seconds by which decoding times may go back, in a disturbed recording.
_JUMP = 1.0
# The file properties of ASF (WMV): after their name the size of that object, an identifier, the file's size,
# when it was made, packets, length with and without what is buffered (in 100 ns), that (in ms), flags.
_ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
_ASF_FIELDS = "<8x16xQ8x8xQ8xQI"
_ASF_LIVE = 1
_HEADER_BYTES = 2**16
# A page of Ogg: its name and version; flags, 20 bytes, number of segments, their sizes, the segments; its
# greatest length.
_OGG_PAGE, _OGG_LAST = b"OggS\0", 4
_OGG_PAGE_BYTES = 65307


def open_video(path: Path) -> InputContainer:
    """Open a file for reading.

    Raises:
        VideoError: it is missing, empty, or of no format that FFmpeg reads.
    """
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty")
    try:
        # An absolute path is never taken for a URL; files that it refers to must be local, too.
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
    """The stream to upscale: the first one that is no cover picture.

    Raises:
        VideoError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    raise VideoError(f"{path}: holds no video stream that FFmpeg can decode")


def demuxed(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """The packets of some streams, and an empty one of each at the end."""
    try:
        yield from container.demux(*streams)
    except IndexError:
        # After the last packet, PyAV fails on streams that appeared after the beginning.
        return


def count_packets(path: Path) -> int:
    """Count the packets of the video stream, and check that the file is complete and of one recording.

    Raises:
        VideoError: the file is cut short or damaged, or several recordings one after the other.
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
        duration = _declared_seconds(container, stream)
        cut = cut or seen < _declared_packets(container, stream) or end < duration - _DURATION_SLACK
        cut = cut or _lacks_its_end(container, path)
    if cut:
        whole = f" of {duration:.1f}" if duration else ""
        raise VideoError(
            f"{path}: cut short, it ends after {end:.1f}{whole} seconds and {count} frames; "
            "download it again, or extract the readable part: ffmpeg -i IN -c copy OUT"
        )
    return count


def _declared_packets(container: InputContainer, stream: VideoStream) -> int:
    """Number of packets in the index of a file; 0 if it has none."""
    return len(stream.index_entries) if "mov" in container.format.name else 0


def _lacks_its_end(container: InputContainer, path: Path) -> bool:
    """Whether a file is smaller than its header declares, or lacks the page that is marked as the last."""
    if container.format.name == "asf":
        return path.stat().st_size < _declared_by_asf(path)[0]
    if container.format.name == "ogg":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _OGG_PAGE_BYTES))
            _, _, page = file.read().rpartition(_OGG_PAGE)
        if len(page) < 22 or not page[0] & _OGG_LAST:
            return True
        return len(page) < 22 + page[21] + sum(page[22 : 22 + page[21]])
    return False


def _declared_by_asf(path: Path) -> tuple[int, float]:
    """Bytes and seconds that the header of ASF declares; zeros for a live stream."""
    with path.open("rb") as file:
        _, found, fields = file.read(_HEADER_BYTES).partition(_ASF_PROPERTIES)
    if not found or len(fields) < struct.calcsize(_ASF_FIELDS):
        return 0, 0.0
    size, length, buffered, flags = struct.unpack_from(_ASF_FIELDS, fields)
    return (0, 0.0) if flags & _ASF_LIVE else (size, length / 1e7 - buffered / 1e3)


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Seconds that the header of a file declares; 0 if it declares nothing reliable."""
    if "matroska" in container.format.name or container.format.name == "flv":
        return (container.duration or 0) / av.time_base
    if container.format.name == "avi" and stream.time_base is not None:
        return float(stream.frames * stream.time_base)
    if container.format.name == "asf":
        return _declared_by_asf(Path(container.name))[1]
    return 0.0
