"""Writing the finished video: encoded parts one after the other, and all else copied from the source."""

from __future__ import annotations

import heapq
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from lmlt_arch.data.listing import some_of
from lmlt_arch.inference.video.demuxing import demuxed, open_video
from lmlt_arch.inference.video.encoder import Encoding, own_priority
from lmlt_arch.inference.video.formats import CONTAINERS
from lmlt_arch.inference.video.parts import Part
from lmlt_arch.inference.video.report import VideoError, reason
from lmlt_arch.inference.video.source import SourceVideo

# Cover pictures that Matroska takes, by FFmpeg's names of the codecs.
_PICTURES = {"mjpeg": "jpeg", "png": "png"}
# Tags about the old file or stream, or what is lost of it, and not about its content.
_STALE_TAGS = {
    *("encoder", "major_brand", "minor_version", "compatible_brands", "duration", "bps"),
    *("number_of_frames", "number_of_bytes", "vendor_id", "alpha_mode"),
}
# Tags of streams that muxers write in their own way.
_TECHNICAL_TAGS = {"filename", "handler_name", "language", "mimetype"}


def check_container(source: SourceVideo, target: Path, encoding: Encoding) -> None:
    """Check that a container holds the encoder's video.

    Raises:
        VideoError: it does not hold it, or the encoder refuses its settings.
    """
    try:
        _try(CONTAINERS[target.suffix.lower()], encoding, source.path, None)
    except (FFmpegError, ValueError) as error:
        raise VideoError(
            f"{target}: cannot hold {encoding.codec} at {encoding.width}x{encoding.height} "
            f"({reason(error)}); choose another suffix (.mkv takes nearly everything) or another encoder"
        ) from error


def streams_to_copy(source: SourceVideo, target: Path, encoding: Encoding) -> tuple[list[int], list[str]]:
    """The streams of the source that the target's container can hold, besides the video.

    Returns:
        Their numbers, and one line for each stream that has to be left out.
    """
    kept, notes = [], []
    with open_video(source.path) as container:
        for stream in container.streams:
            # Streams that are not content, such as MP4's track of chapters, which are copied as chapters.
            if stream.index == source.index or stream.discard == Discard.all:
                continue
            if stream.type == "data" and "timecode" in stream.metadata:
                continue  # the muxer makes such a stream from the video's tags
            called = " ".join(
                filter(None, (stream.type, str(stream.index), _codec_name(stream), stream.language))
            )
            if stream.type == "video" and not _is_cover(stream):
                notes.append(f"left out: {called}, only one video stream is upscaled")
                continue
            try:
                _try(CONTAINERS[target.suffix.lower()], encoding, source.path, stream.index)
            except (FFmpegError, ValueError, KeyError):
                notes.append(f"left out: {called}, which {target.suffix} cannot hold")
            else:
                kept.append(stream.index)
    return kept, notes


def join(
    written: Path,
    target: Path,
    source: SourceVideo,
    encoding: Encoding,
    parts: Sequence[tuple[Path, Part]],
    copied: Sequence[int],
) -> list[str]:
    """Write the finished video.

    Args:
        written: the file to write.
        target: its final name, by whose suffix the container is chosen.
        source: of all other streams.
        encoding: the settings of the parts.
        parts: all parts and their files.
        copied: numbers of the source's streams to copy.

    Returns:
        One line for each stream of which the container refused packets, and one on tags that are left out.
    """
    name = CONTAINERS[target.suffix.lower()]
    with (
        open_video(source.path) as original,
        av.open(str(written), "w", format=name, options=_options(name, original, parts[0][1])) as whole,
    ):
        whole.metadata.update(_lasting(original.metadata))
        whole.set_chapters(original.chapters())
        streams: dict[int, Stream] = {}
        for stream in original.streams:
            if stream.index == source.index:
                video = encoding.add_to(whole)
                video.metadata.update(_lasting(stream.metadata))
                video.disposition = stream.disposition
                if source.display_matrix is not None:
                    video.set_display_matrix(source.display_matrix)
            elif stream.index in copied:
                streams[stream.index] = _add_copy(whole, stream)
        encoded = _encoded_packets(parts, video, source.time_base)
        rest = _copied_packets(original, copied, streams)
        refused: Counter[str] = Counter()
        with own_priority():
            whole.start_encoding()
        for packet in heapq.merge(encoded, rest, key=_time):
            stream = packet.stream
            try:
                whole.mux(packet)
            except FFmpegError as error:
                # Damaged sound is no reason to lose the whole video; a full disk is.
                if stream is video or isinstance(error, OSError):
                    raise
                refused[f"{stream.type} {stream.index}"] += 1
    lost = _tags(source.path, [source.index, *copied]) - _tags(written)
    return [
        *(f"left out: {count} damaged packets of {name}" for name, count in refused.items()),
        *([f"left out: tags that {target.suffix} cannot hold: {some_of(sorted(lost))}"] if lost else []),
    ]


def _tags(path: Path, streams: Sequence[int] | None = None) -> set[str]:
    """Names of the tags that are kept, of a file and its streams."""
    with open_video(path) as container:
        of = [stream.metadata for stream in container.streams if streams is None or stream.index in streams]
        return {
            name.lower() for tags in (container.metadata, *of) for name in _lasting(tags)
        } - _TECHNICAL_TAGS


def _options(name: str, original: InputContainer, first: Part) -> dict[str, str]:
    """Options for MP4 to store exactly when streams begin, which it otherwise rounds to milliseconds."""
    late = min(first.coded) != 0 or any(stream.start_time for stream in original.streams)
    if name not in ("mp4", "mov") or not late:
        return {}
    units = [stream.time_base.denominator for stream in original.streams if stream.time_base is not None]
    return {"movie_timescale": str(min(math.lcm(*units), 2**31 - 1))}


def _try(name: str, encoding: Encoding, path: Path, index: int | None) -> None:
    """Write a file in memory with the video's header and the first packet of at most one other stream."""
    with open_video(path) as original, av.open(io.BytesIO(), "w", format=name) as container:
        encoding.add_to(container)
        if index is not None:
            stream = original.streams[index]
            streams = {index: _add_copy(container, stream)}
            container.mux(list(islice(_copied_packets(original, [index], streams), 1)))
        with own_priority():
            container.start_encoding()


def _add_copy(container: OutputContainer, stream: Stream) -> Stream:
    """Add a stream for the packets of another, with its tags and dispositions."""
    if _is_cover(stream) and container.format.name == "matroska":
        # In Matroska it is an attached file; a stream would be a second video.
        kind = _PICTURES[stream.codec_context.name]
        with open_video(Path(stream.container.name)) as original:
            picture = next(original.demux(original.streams[stream.index]))
            return container.add_attachment(f"cover.{kind}", f"image/{kind}", bytes(picture))
    copy = container.add_stream_from_template(stream, opaque=True)
    if isinstance(copy, AudioStream) and copy.layout.name.endswith(" channels"):
        # AVI has no layout of channels, MP4 needs one: the usual layout for this number.
        copy.codec_context.layout = av.AudioLayout(f"{copy.layout.nb_channels}c")
    copy.metadata.update(_lasting(stream.metadata))
    copy.disposition = stream.disposition
    return copy


def _encoded_packets(
    parts: Sequence[tuple[Path, Part]], stream: VideoStream, time_base: Fraction
) -> Iterator[Packet[Any]]:
    """The packets of all parts, with decoding times for one stream of them.

    A packet's decoding time is the timestamp of the frame that is shown at its place in the file, less the
    longest delay of any packet: it rises from packet to packet and is not after the packet is shown.
    """
    shown = [pts for _, part in parts for pts in sorted(part.coded)]
    duration_of = {pts: after - pts for pts, after in pairwise(shown)}
    last_duration = parts[-1][1].last_duration
    delay = max(_delay(part.coded) for _, part in parts)
    # Containers compute length and rate from decoding times and the duration of the last packet. For these to
    # be right, the first packets come before the first frame by as much as the last frames take.
    lead = shown[-1] - shown[-1 - delay]
    number = 0
    for path, part in parts:
        with av.open(str(path)) as container:
            packets = (packet for packet in container.demux(container.streams.video[0]) if packet.size)
            for packet, pts in zip(packets, part.coded, strict=True):
                early = delay - number
                packet.stream = stream
                packet.time_base = time_base
                packet.pts = pts
                packet.dts = shown[0] - lead * early // delay if early > 0 else shown[number - delay]
                number += 1
                packet.duration = (
                    last_duration if number == len(shown) else duration_of.get(pts, last_duration)
                )
                yield packet


def _delay(coded: Sequence[int]) -> int:
    """By how many places at most a packet comes later in the file than on display."""
    place = {pts: i for i, pts in enumerate(sorted(coded))}
    return max(i - place[pts] for i, pts in enumerate(coded))


def _copied_packets(
    original: InputContainer, copied: Sequence[int], streams: Mapping[int, Stream]
) -> Iterator[Packet[Any]]:
    wanted = [original.streams[index] for index in copied]
    wanted = [stream for stream in wanted if streams[stream.index].type != "attachment"]
    last: dict[int, int] = {}
    for packet in demuxed(original, *wanted) if wanted else ():
        if not packet.size or _is_gap(packet):
            continue
        index = packet.stream_index
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else last.get(index, -1) + 1
        # Containers refuse times that do not rise, as in damaged recordings; subtitles may share one.
        if index in last:
            packet.dts = max(packet.dts, last[index] + (packet.stream.type == "audio"))
        last[index] = packet.dts
        if packet.pts is not None:
            packet.pts = max(packet.pts, packet.dts)
        packet.stream = streams[index]
        yield packet


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _is_gap(packet: Packet[Any]) -> bool:
    """Whether this is the gap between two subtitles of MP4, which the muxer writes itself."""
    return packet.stream.type == "subtitle" and packet.size == 2 and bytes(packet) == bytes(2)


def _time(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * packet.time_base)


def _lasting(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that also hold for the new file."""
    return {
        name: value
        for name, value in tags.items()
        if name.lower().partition("-")[0] not in _STALE_TAGS and not name.startswith("_STATISTICS")
    }


def _codec_name(stream: Stream) -> str | None:
    return stream.codec_context.name if stream.codec_context is not None else None
