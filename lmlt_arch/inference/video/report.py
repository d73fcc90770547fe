"""The report on an upscaled video, and the errors of upscaling one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lmlt_arch.errors import LmltError, MissingPackageError
from lmlt_arch.files import OutputError, output_error
from lmlt_arch.inference.engine.sizes import Size


class VideoError(LmltError, ValueError):
    """A video that cannot be read, upscaled or written as asked; the message names the file and the fix."""


class MissingVideoPackageError(VideoError, MissingPackageError):
    """PyAV, which all videos need, is not installed."""


@dataclass(frozen=True)
class VideoReport:
    """What was written, and what could not be kept.

    Attributes:
        frames: number of frames, in the source and in the target.
        fps: average frames a second.
        source_size: height and width of the source's frames.
        size: height and width of the target's frames.
        resumed_from: frames that an earlier run had finished.
        notes: one line for each thing that could not be kept.
    """

    frames: int
    fps: Fraction
    source_size: Size
    size: Size
    resumed_from: int
    notes: tuple[str, ...]


@contextmanager
def writing_errors(target: Path) -> Iterator[None]:
    """Turn errors of libav on writing a video or its parts into errors that name the video.

    Raises:
        OutputError: the disk is full, and so on.
        VideoError: any other error.
    """
    from av.error import FFmpegError

    try:
        yield
    except OSError as error:
        # Encoders report errors of their own by numbers of the operating system, too.
        if isinstance(error, FFmpegError) and str(error.filename).startswith("avcodec_"):
            raise VideoError(f"{target}: the encoder refuses: {reason(error)}") from error
        kept = "; what is done is kept, the same command goes on from there"
        raise OutputError(f"{output_error(target, error)}{kept}") from error
    except FFmpegError as error:
        raise VideoError(f"{target}: the encoder or the container refuses: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The message of an error of libav, without its numbers."""
    return str(getattr(error, "strerror", None) or error)
