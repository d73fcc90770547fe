"""Upscaling of videos: frames stream through the network, everything else in the file is copied.

What is kept of a video, and the limits of that:

* Frames: the same number with the same timestamps, at a variable rate too. MP4 and MOV keep them exactly.
  Matroska and WebM count in milliseconds, to which times are rounded there, and have none below zero: where
  a sound track begins before it, as AAC in MP4 does by some 20 ms, all streams start later by that.
* Audio, subtitles, attachments, cover pictures, chapters, tags, languages and dispositions are copied without
  re-encoding. What the target's container cannot hold is left out and named in the report.
* Colors: primaries, transfer (PQ and HLG too), matrix and range are those of the source, and what the frames
  were converted with. A source without a matrix has the one that players assume for its size (BT.601 up
  to 1024x576, else BT.709); it is written into the result, whose size differs. Where an encoder or a
  container cannot store the matrix or the range (motion JPEG, ProRes), frames are made for those that
  players assume; the report names primaries and transfer that are not stored. Mastering display data,
  dynamic HDR metadata and transparency cannot be kept, which the report notes. Floats are refused.
* Depth and chroma: 10 bits stay 10 bits and 4:2:0, 4:2:2, 4:4:4 stay so where the encoder can. A size that
  4:2:0 cannot express (an odd width or height) is encoded as 4:4:4: nothing is padded or cut.
* Rotation and sample aspect ratio are copied as metadata; sizes are those of the stored frames. A `size` of
  another shape changes the sample aspect ratio, so that the picture keeps its shape.
* Interlaced videos are refused: a network would upscale the combs of two fields as detail, which no later
  step can undo. Deinterlace them first.
* Damaged videos are refused: before the work begins if the file ends early, and at the first frame that
  cannot be decoded; the message has the number of frames before it. A frame whose damage the decoder conceals
  is used, and the report counts them; likewise errors after which FFmpeg goes on, such as a picture whose
  checksum is wrong or a part of the file that cannot be read, and places of a broadcast where frames are
  missing. A video whose size or colors change is refused.

Finished parts of a few seconds are saved beside the target in `.NAME.parts`; an interrupted run goes on from
there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from torch import Tensor

from lmlt_arch.errors import pip_install
from lmlt_arch.files import exclusive, lock_beside
from lmlt_arch.inference.defaults import CRF
from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.video.formats import OUTPUT_SUFFIXES, USUAL_CODEC, VIDEO_SUFFIXES, usual_codec
from lmlt_arch.inference.video.report import MissingVideoPackageError, VideoError, VideoReport

__all__ = ["OUTPUT_SUFFIXES", "VIDEO_SUFFIXES", "VideoError", "VideoReport", "upscale_video", "usual_codec"]

SizeRule = Size | Callable[[Size], Size]
"""Height and width of the result, or a function that returns them for those of the source."""


def upscale_video(
    source: Path,
    target: Path,
    upscale: Callable[[Tensor], Tensor],
    *,
    batch: int = 1,
    size: SizeRule | None = None,
    crf: int = CRF,
    codec: str = USUAL_CODEC,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    identity: str = "",
    part_frames: int = 250,
) -> VideoReport:
    """Upscale every frame of a video and copy the rest of the file.

    Decoding, `upscale` and encoding overlap; a few batches are in memory at a time, whatever the length.

    Args:
        source: any video that FFmpeg reads.
        target: its suffix, one of `OUTPUT_SUFFIXES`, names the container. It appears once it is complete.
        upscale: maps (B, 3, H, W) float32 RGB in [0, 1] on the CPU to (B, 3, H * s, W * s), on any device and
            not necessarily clamped. It is called in the calling thread.
        batch: frames in a call of `upscale`; the last batch may be smaller.
        size: height and width of the target, or a function that returns them for those of the source; the
            upscaled frames are resized to that (bicubic, antialiased). Default: as `upscale` returns them.
        crf: quality, lower is better; for encoders that have such a scale.
        codec: an encoder of FFmpeg.
        overwrite: replace an existing target.
        progress: called with the number of frames done and, if the file has it, of all frames.
        identity: all else that determines the frames, such as the network's checksum and precision. An
            unfinished run goes on only where this, the settings and the source are the same.
        part_frames: frames in a part.

    Returns:
        What was written, and what could not be kept.

    Raises:
        MissingVideoPackageError: PyAV is not installed; a `VideoError`, too.
        VideoError: the source is no video, damaged or not supported; the target exists or
            cannot hold the video; the encoder is unknown or refuses.
        OutputError: the disk is full, a folder is not writable, another process writes the same video, and so
            on; finished parts are kept.
        ValueError: `batch` or `part_frames` is below 1.
    """
    if batch < 1 or part_frames < 1:
        raise ValueError(f"batch and part_frames must be at least 1; got {batch}, {part_frames}")
    _check_paths(source, target, overwrite)
    try:
        import_module("av")
    except ImportError as error:
        raise MissingVideoPackageError(
            f"{source}: videos need PyAV ({error}): {pip_install('video')}"
        ) from error
    from lmlt_arch.inference.video.run import run_video

    work, fix = f"upscale of a video to {target}", "wait until it has ended, or give another output"
    with exclusive(lock_beside(target), work, fix):
        _check_paths(source, target, overwrite)  # another process may have finished it meanwhile
        return run_video(
            source,
            target,
            upscale,
            batch=batch,
            size=size,
            crf=crf,
            codec=codec,
            progress=progress,
            identity=identity,
            part_frames=part_frames,
        )


def _check_paths(source: Path, target: Path, overwrite: bool) -> None:
    if target.suffix.lower() not in OUTPUT_SUFFIXES:
        raise VideoError(f"{target}: videos are written as {', '.join(sorted(OUTPUT_SUFFIXES))}")
    if target.is_dir():
        raise VideoError(f"{target}: is a folder; name a file")
    if target.exists() and source.exists() and target.samefile(source):
        raise VideoError(f"{target}: is the source itself; name another file")
    if target.exists() and not overwrite:
        raise VideoError(f"{target}: exists already; remove it, or ask to overwrite it")
