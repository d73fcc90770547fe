"""The video containers that are read and written, and their default encoders."""

from __future__ import annotations

from pathlib import Path

CONTAINERS = {".m4v": "mp4", ".mkv": "matroska", ".mov": "mov", ".mp4": "mp4", ".webm": "webm"}
"""FFmpeg's names of the containers that hold the timestamps of any video, by suffix."""

OUTPUT_SUFFIXES = frozenset(CONTAINERS)
"""Of videos that are written."""

VIDEO_SUFFIXES = OUTPUT_SUFFIXES | {
    *(".3gp", ".avi", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".wmv")
}
"""Of videos that are read."""

USUAL_CODEC, CODEC_OF_WEBM = "libx264", "libvpx-vp9"


def usual_codec(target: Path) -> str:
    """The default encoder for a file."""
    return CODEC_OF_WEBM if target.suffix.lower() == ".webm" else USUAL_CODEC
