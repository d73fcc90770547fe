"""What comes of a video: a file of some kind and a report, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lmlt_arch.errors import LmltError
from lmlt_arch.files import OutputError, output_error

# Suffixes of containers that hold the timestamps of any video, and FFmpeg's names of those.
CONTAINERS = {".m4v": "mp4", ".mkv": "matroska", ".mov": "mov", ".mp4": "mp4", ".webm": "webm"}


class VideoError(LmltError, ValueError):
    """A video that cannot be read, upscaled or written as asked; the message names the file and the fix."""


@dataclass(frozen=True)
class VideoReport:
    """What became of a video.

    Attributes:
        frames: in the source and in the target.
        fps: average rate.
        source_size: width and height of the source's frames.
        size: width and height of the target's frames.
        resumed_from: frames that an earlier run had finished.
        notes: one line each on what could not be kept.
    """

    frames: int
    fps: Fraction
    source_size: tuple[int, int]
    size: tuple[int, int]
    resumed_from: int
    notes: tuple[str, ...]


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Raise what libav raises on writing a video or its parts as an error that names the video.

    Raises:
        OutputError: the disk is full, and so on.
        VideoError: anything else.
    """
    from av.error import FFmpegError

    try:
        yield
    except OSError as error:
        # Encoders have numbers of operating system errors too, for what is no matter of files.
        if isinstance(error, FFmpegError) and str(error.filename).startswith("avcodec_"):
            raise VideoError(f"{target}: the encoder refuses: {reason(error)}") from error
        kept = "; what is done is kept, the same command goes on from there"
        raise OutputError(f"{output_error(target, error)}{kept}") from error
    except FFmpegError as error:
        raise VideoError(f"{target}: the encoder or the container refuses: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an error of libav says, without the numbers around it."""
    return str(getattr(error, "strerror", None) or error)
