"""Upscaling files: images, folders and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from lmlt_arch.errors import UsageError
from lmlt_arch.files import OutputError
from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.images import deep
from lmlt_arch.inference.images.streaming import upscale_large
from lmlt_arch.inference.jobs import Job, find_jobs, is_video
from lmlt_arch.inference.pipeline import Plan, Result, Settings, settle, upscale_images, why
from lmlt_arch.inference.processes import Processes
from lmlt_arch.inference.upscaler import Upscaler, far_outside, range_of
from lmlt_arch.inference.video.parts import remove_of_finished
from lmlt_arch.inference.video.upscale import VideoError, upscale_video, usual_codec

__all__ = ["FileProgress", "Result", "Settings", "resize_by", "resize_to", "upscale_files"]

# Of a video, most frames that run together.
_FRAMES = 8


class FileProgress(NamedTuple):
    """How much of the work is done.

    Attributes:
        job: the video; None for images, which are counted together.
        done: images, in parts of one, or frames.
        total: of them; None where it is unknown.
    """

    job: Job | None
    done: float
    total: int | None


Observer = Callable[[FileProgress], object]


def upscale_files(
    inputs: Iterable[str | Path],
    output: str | Path,
    upscaler: Upscaler,
    settings: Settings | None = None,
    *,
    processes: Processes | None = None,
    progress: Observer = lambda progress: None,
    notice: Callable[[str], object] = lambda message: None,
) -> Iterator[Result]:
    """Upscale images and videos; one that cannot be upscaled does not stop the others.

    Args:
        inputs: files, folders (searched at any depth, their structure is kept) and patterns such as
            `photos/**/*.jpg`.
        output: a folder, or a file for one input. Existing outputs are skipped.
        upscaler: upscales.
        settings: how files are upscaled and written; default `Settings()`.
        processes: shares the work among several; default one process does all of it.
        progress: called as the work goes on.
        notice: called with a line for each folder that holds other files too.

    Returns:
        The results of this process, as they are made: images first, more or less in their order.

    Raises:
        UsageError: an input is missing, nothing is found, or an output would replace an input or another one.
        MissingPackageError: `settings` ask for more than 8 bits per channel, and pyvips is not installed.
        OutputError: the disk is full; finished outputs are kept, and the same call goes on from there.
    """
    settings, processes = settings or Settings(), processes or Processes()
    encoding = settings.encoding
    work = find_jobs(map(str, inputs), Path(output), format=encoding.format, ending=settings.suffix)
    for note in work.notes if processes.rank == 0 else ():
        notice(note)
    if (encoding.depth or 8) > 8 and not all(is_video(job.source) for job in work.jobs):
        deep.vips(deep.WRITING)  # or every image would fail, and only once it is upscaled
    images = processes.share([job for job in work.jobs if not is_video(job.source)])
    videos = processes.share([job for job in work.jobs if is_video(job.source)])
    refused = [Result(job, "failed", error=reason) for job, reason in processes.share(work.refused)]
    return _results(refused, images, videos, upscaler, settings, progress)


def resize_by(factor: float) -> Callable[[Size], Size]:
    """Sizes of outputs for `Settings.resize`: those of inputs times a factor, at least 1 pixel.

    Raises:
        UsageError: the factor is not above 0, or 1000 and more.
    """
    if not 0 < factor < 1000:
        raise UsageError(f"scale must be above 0 and below 1000, not {factor}")
    return lambda before: (max(1, round(before[0] * factor)), max(1, round(before[1] * factor)))


def resize_to(height: int, width: int) -> Callable[[Size], Size]:
    """A size of outputs for `Settings.resize`; a side of 0 follows from the other and the aspect.

    Raises:
        UsageError: a side is below 0, or both are 0.
    """
    if min(height, width) < 0 or not (height or width):
        raise UsageError(f"a size needs a height or a width above 0, not {height}x{width}")
    return lambda before: (
        height or max(1, round(before[0] * width / before[1])),
        width or max(1, round(before[1] * height / before[0])),
    )


def _results(
    refused: list[Result],
    images: list[Job],
    videos: list[Job],
    upscaler: Upscaler,
    settings: Settings,
    progress: Observer,
) -> Iterator[Result]:
    try:
        yield from refused
        if images:
            yield from _images(images, upscaler, settings, progress)
        for job in videos:
            yield _video(job, upscaler, settings, progress)
    except OutputError as error:
        raise OutputError(f"{error}; what is done is kept, start again to go on") from error


@contextmanager
def _own_limit() -> Iterator[None]:
    """Lift Pillow's limit on pixels: `Settings.max_pixels` takes its place."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _images(jobs: list[Job], upscaler: Upscaler, settings: Settings, progress: Observer) -> Iterator[Result]:
    done = 0.0

    def advance(images: float) -> None:
        nonlocal done
        done += images
        progress(FileProgress(None, done, len(jobs)))

    def large(plan: Plan) -> tuple[str, ...]:
        return upscale_large(
            plan.job.source,
            plan.job.target,
            upscaler,
            after=plan.after,
            format=plan.format,
            encoding=settings.encoding,
            progress=advance,
        )

    advance(0)
    with _own_limit():
        for result in upscale_images(jobs, upscaler, settings, large=large, progress=advance):
            if result.status != "done":
                advance(1)
            yield result


def _video(job: Job, upscaler: Upscaler, settings: Settings, progress: Observer) -> Result:
    if (settled := settle(job, overwrite=settings.overwrite)) is not None:
        if settled.status == "skipped":
            remove_of_finished(job.target)
        return settled

    def advance(frames: int, total: int | None) -> None:
        progress(FileProgress(job, frames, total))

    advance(0, None)
    resize = settings.resize
    excesses: dict[str, None] = {}
    try:
        report = upscale_video(
            job.source,
            job.target,
            partial(_frames, upscaler, resize, excesses),
            batch=min(_FRAMES, upscaler.batch(720, 1280)),
            size=resize,
            crf=settings.crf,
            codec=settings.codec or usual_codec(job.target),
            overwrite=settings.overwrite,
            progress=advance,
            identity=upscaler.identity,
        )
    except (OutputError, VideoError) as error:
        return Result(job, "failed", error=str(error))
    except Exception as error:
        # Networks run out of memory, and PyAV raises nearly anything; other videos may still work.
        return Result(job, "failed", error=f"{job.source}: {why(error)}")
    return Result(job, "done", report.source_size, report.size, notes=(*report.notes, *excesses))


def _frames(
    upscaler: Upscaler, resize: Callable[[Size], Size] | None, excesses: dict[str, None], lq: Tensor
) -> Tensor:
    """Upscale frames (B, 3, H, W), to their final size if the network can; notes go into `excesses`."""
    before = (lq.shape[-2], lq.shape[-1])
    output = upscaler.upscale(lq, size=None if resize is None else upscaler.made(before, resize(before)))
    if excess := far_outside(*range_of(output)):
        excesses[excess] = None
    return output
