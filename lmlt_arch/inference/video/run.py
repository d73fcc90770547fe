"""One video, from decoding to the finished file."""

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

from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.video.color import UNSPECIFIED, FromRGB, ToRGB
from lmlt_arch.inference.video.encoder import Encoding, PartWriter, choose_pixels, color_after_encoding
from lmlt_arch.inference.video.formats import CONTAINERS
from lmlt_arch.inference.video.join import check_container, join, streams_to_copy
from lmlt_arch.inference.video.parts import Parts
from lmlt_arch.inference.video.report import VideoError, VideoReport, writing_errors
from lmlt_arch.inference.video.source import Damage, SourceVideo, inspect_video, read_frames
from lmlt_arch.threads import ahead, behind

# Batches that wait between decoding and network, and between network and encoding.
_WAITING = 2
# A change of shape up to this comes from rounding a size to whole pixels.
_SAME_SHAPE = Fraction(1, 100)

Times = list[tuple[int, int]]
"""Timestamp and duration of each frame of a batch."""


@dataclass(frozen=True)
class Plan:
    """How the result is written; made once its size is known.

    Attributes:
        encoding: the settings of the encoder.
        from_rgb: converts RGB to its frames.
        copied: numbers of the source's other streams that are copied.
        notes: one line for each thing that is lost by that.
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
    size: Size | Callable[[Size], Size] | None,
    crf: int,
    codec: str,
    progress: Callable[[int, int | None], None] | None,
    identity: str,
    part_frames: int,
) -> VideoReport:
    """`upscale_video` without its checks of the paths; arguments and errors as there."""
    video = inspect_video(source)
    wanted = size((video.height, video.width)) if callable(size) else size
    plan = None if wanted is None else _plan(video, target, wanted, codec, crf)
    status = source.stat()
    job = {
        "source": [source.name, status.st_size, status.st_mtime_ns],
        # Width first: so it stands in folders of earlier versions.
        "settings": [identity, codec, crf, wanted and wanted[::-1], part_frames],
        "libraries": [av.__version__, av.library_versions],
    }
    parts = Parts(target, job)
    damage = Damage()
    known = parts.timestamps
    done = len(known)
    try:
        if plan is None and parts.finished:
            plan = _plan(video, target, (parts.finished[0].height, parts.finished[0].width), codec, crf)
        with (
            ahead(_batches(video, batch, known, damage), _WAITING) as batches,
            _Encoder(target, parts, part_frames) as encoder,
            behind(encoder.write, _WAITING) as encode,
        ):
            if progress is not None and known:
                progress(done, video.packets or None)
            for pixels, times in batches:
                with torch.inference_mode():
                    images = _resized(upscale(pixels), wanted)
                    height, width = images.shape[2], images.shape[3]
                    if plan is None:
                        plan = _plan(video, target, (height, width), codec, crf)
                    if (height, width) != (plan.encoding.height, plan.encoding.width):
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
        source_size=(video.height, video.width),
        size=(plan.encoding.height, plan.encoding.width),
        resumed_from=len(known),
        notes=(*plan.notes, *damage.notes(), *refused),
    )


def _plan(video: SourceVideo, target: Path, size: Size, codec: str, crf: int) -> Plan:
    height, width = size
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
    read = color_after_encoding(encoding, CONTAINERS[target.suffix.lower()])
    # Where the container cannot store a matrix or range, frames are made for those that players assume.
    encoding = replace(encoding, color=replace(video.color, matrix=read.matrix, full=read.full))
    copied, notes = streams_to_copy(video, target, encoding)
    for kind, number, kept in (
        ("primaries", video.color.primaries, read.primaries),
        ("transfer", video.color.transfer, read.transfer),
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
    """Write the target from the finished parts.

    Returns:
        One line for each stream that could not be copied completely.
    """
    whole = parts.temporary("whole")
    files = [(parts.file(number), part) for number, part in enumerate(parts.finished)]
    with writing_errors(target):
        try:
            refused = join(whole, target, video, plan.encoding, files, plan.copied)
            whole.replace(target)
            return refused
        finally:
            whole.unlink(missing_ok=True)


def _batches(
    video: SourceVideo, batch: int, known: Sequence[int], damage: Damage
) -> Generator[tuple[Tensor, Times], None, None]:
    """RGB (B, 3, H, W) of the frames after the known ones."""
    to_rgb = ToRGB()
    images: list[Tensor] = []
    times: Times = []
    for timed in read_frames(video, known=known, damage=damage):
        images.append(to_rgb(timed.frame, video.color))
        times.append((timed.pts, timed.duration))
        if len(images) == batch:
            yield torch.stack(images), times
            images, times = [], []
    if images:
        yield torch.stack(images), times


def _resized(images: Tensor, size: Size | None) -> Tensor:
    """Images (B, 3, H, W) at a height and width."""
    if size is None or size == (images.shape[2], images.shape[3]):
        return images
    return F.interpolate(images.float(), size, mode="bicubic", antialias=True, align_corners=False)


class _Encoder:
    """Writes frames to part after part; a part that was begun is finished on leaving, also after an error."""

    def __init__(self, target: Path, parts: Parts, part_frames: int) -> None:
        self._target = target
        self._parts = parts
        self._part_frames = part_frames
        self._writer: PartWriter | None = None
        self._failed = False

    def write(self, item: tuple[Plan, list[Tensor], Times]) -> None:
        """Encode a batch: the planes of `FromRGB.planes`, and their timestamps and durations."""
        plan, planes, times = item
        try:
            with writing_errors(self._target):
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
            with writing_errors(self._target):
                self._finish()
        else:
            # The error that is being raised matters more than one of saving the last part.
            with suppress(Exception):
                self._finish()

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._parts.commit(writer.path, writer.close())
