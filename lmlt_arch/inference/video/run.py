"""One video from decoding to the finished file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import torch
from torch import Tensor
from torch.nn import functional as F

from lmlt_arch.inference.video.color import UNSPECIFIED, FromRGB, ToRGB
from lmlt_arch.inference.video.encoder import Encoding, PartWriter, choose_pixels, color_told
from lmlt_arch.inference.video.join import check_container, join, streams_to_copy
from lmlt_arch.inference.video.losses import Losses
from lmlt_arch.inference.video.outcome import CONTAINERS, VideoError, VideoReport, naming
from lmlt_arch.inference.video.parts import Parts
from lmlt_arch.inference.video.source import SourceVideo, inspect_video, read_frames
from lmlt_arch.threads import ahead, behind

# Batches that wait between decoding and network, and between network and encoding.
_WAITING = 2
# A change of shape up to this comes from rounding a size to whole pixels.
_SAME_SHAPE = Fraction(1, 100)

# Timestamp and duration of each frame of a batch.
Times = list[tuple[int, int]]


@dataclass(frozen=True)
class Plan:
    """How the result is written, which is known with its size.

    Attributes:
        encoding: what the encoder is told.
        from_rgb: makes what it is told of RGB.
        copied: numbers of the source's other streams that are copied.
        notes: one line each on what is lost by that.
    """

    encoding: Encoding
    from_rgb: FromRGB
    copied: list[int]
    notes: list[str]


def run_video(
    source: Path,
    target: Path,
    upscale: Callable[[Tensor], Tensor],
    *,
    batch: int,
    size: tuple[int, int] | Callable[[int, int], tuple[int, int]] | None,
    crf: int,
    codec: str,
    progress: Callable[[int, int | None], None] | None,
    identity: str,
    part_frames: int,
) -> VideoReport:
    """`upscale_video` without its checks of the paths; arguments and errors as there."""
    video = inspect_video(source)
    wanted = size(video.width, video.height) if callable(size) else size
    plan = None if wanted is None else _plan(video, target, wanted, codec, crf)
    status = source.stat()
    job = {
        "source": [source.name, status.st_size, status.st_mtime_ns],
        "settings": [identity, codec, crf, wanted, part_frames],
        "libraries": [av.__version__, av.library_versions],
    }
    parts = Parts(target, job)
    losses = Losses()
    known = parts.timestamps
    done = len(known)
    try:
        if plan is None and parts.finished:
            plan = _plan(video, target, (parts.finished[0].width, parts.finished[0].height), codec, crf)
        with (
            ahead(_batches(video, batch, known, losses), _WAITING) as batches,
            _Encoder(target, parts, part_frames) as encoder,
            behind(encoder.write, _WAITING) as encode,
        ):
            if progress is not None and known:
                progress(done, video.packets or None)
            for pixels, times in batches:
                with torch.inference_mode():
                    images = _resized(upscale(pixels), wanted)
                    width, height = images.shape[3], images.shape[2]
                    if plan is None:
                        plan = _plan(video, target, (width, height), codec, crf)
                    if (width, height) != (plan.encoding.width, plan.encoding.height):
                        raise VideoError(
                            f"{target}: frames came out as {width}x{height}, earlier ones as "
                            f"{plan.encoding.width}x{plan.encoding.height}; for another network, remove "
                            f"{parts.folder}"
                        )
                    encode((plan, plan.from_rgb.planes(images), times))
                done += len(times)
                if progress is not None:
                    progress(done, video.packets or None)
        if plan is None:
            raise VideoError(f"{source}: holds no frame that can be decoded")
        refused = _join(parts, target, video, plan)
    except BaseException:
        if not parts.finished:
            parts.remove()
        raise
    parts.remove()
    return VideoReport(
        frames=done,
        fps=video.rate,
        source_size=(video.width, video.height),
        size=(plan.encoding.width, plan.encoding.height),
        resumed_from=len(known),
        notes=(*plan.notes, *losses.notes(), *refused),
    )


def _plan(video: SourceVideo, target: Path, size: tuple[int, int], codec: str, crf: int) -> Plan:
    width, height = size
    try:
        pixels, less = choose_pixels(codec, video.pixels, width, height)
    except ValueError as error:
        raise VideoError(f"{target}: {error}") from error
    aspect = video.aspect
    stretch = Fraction(video.width * height, video.height * width)
    if aspect is not None and abs(stretch - 1) > _SAME_SHAPE:
        aspect = (aspect * stretch).limit_denominator(255)
    encoding = Encoding(
        codec=codec,
        crf=crf,
        pixels=pixels,
        width=width,
        height=height,
        time_base=video.time_base,
        rate=video.rate,
        color=video.color,
        aspect=aspect,
    )
    check_container(video, target, encoding)
    told = color_told(encoding, CONTAINERS[target.suffix.lower()])
    # Of what cannot be said, numbers are made as they will be taken.
    encoding = replace(encoding, color=replace(video.color, matrix=told.matrix, full=told.full))
    copied, notes = streams_to_copy(video, target, encoding)
    for kind, number, kept in (
        ("primaries", video.color.primaries, told.primaries),
        ("transfer", video.color.transfer, told.transfer),
    ):
        if number not in (UNSPECIFIED, kept):
            notes.append(
                f"not kept: color {kind}, number {number} of ITU-T H.273, which {codec} in {target.suffix} "
                "does not say"
            )
    notes += [f"not kept: {lost}" for lost in video.lost]
    if less is not None:
        notes.append(less)
    return Plan(encoding, FromRGB(pixels, encoding.color), copied, notes)


def _join(parts: Parts, target: Path, video: SourceVideo, plan: Plan) -> list[str]:
    """Make the target of finished parts; one line for each stream that could not be copied entirely."""
    whole = parts.temporary("whole")
    files = [(parts.file(number), part) for number, part in enumerate(parts.finished)]
    with naming(target):
        try:
            refused = join(whole, target, video, plan.encoding, files, plan.copied)
            whole.replace(target)
            return refused
        finally:
            whole.unlink(missing_ok=True)


def _batches(
    video: SourceVideo, batch: int, known: Sequence[int], losses: Losses
) -> Generator[tuple[Tensor, Times], None, None]:
    """RGB (B, 3, H, W) of the frames after the known ones."""
    to_rgb = ToRGB()
    images: list[Tensor] = []
    times: Times = []
    for timed in read_frames(video, known=known, losses=losses):
        images.append(to_rgb(timed.frame, video.color))
        times.append((timed.pts, timed.duration))
        if len(images) == batch:
            yield torch.stack(images), times
            images, times = [], []
    if images:
        yield torch.stack(images), times


def _resized(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Images (B, 3, H, W) at a width and height."""
    if size is None or size == (images.shape[3], images.shape[2]):
        return images
    return F.interpolate(images.float(), size[::-1], mode="bicubic", antialias=True, align_corners=False)


class _Encoder:
    """Writes frames to part after part. What was begun is finished on leaving, for whatever reason."""

    def __init__(self, target: Path, parts: Parts, part_frames: int) -> None:
        self._target = target
        self._parts = parts
        self._part_frames = part_frames
        self._writer: PartWriter | None = None
        self._failed = False

    def write(self, item: tuple[Plan, list[Tensor], Times]) -> None:
        """Encode a batch: planes as `FromRGB` makes them, and when they are shown."""
        plan, planes, times = item
        try:
            with naming(self._target):
                for i, (pts, duration) in enumerate(times):
                    frame = plan.from_rgb.frame([plane[i] for plane in planes])
                    if self._writer is None:
                        self._writer = PartWriter(self._parts.temporary("part"), plan.encoding)
                    self._writer.write(frame, pts, duration)
                    if self._writer.frames == self._part_frames:
                        self._finish()
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._failed:
            if self._writer is not None:
                self._writer.abandon()
        elif kind is None:
            with naming(self._target):
                self._finish()
        else:
            # The error on its way matters more than one of saving what was done until then.
            with suppress(Exception):
                self._finish()

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._parts.commit(writer.path, writer.close())
