"""Decoding, network and encoding of many images at the same time: the engine below `files.upscale_files`."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from lmlt_arch.data.images import ImageError
from lmlt_arch.data.listing import LONGEST_NAME, why_no_file
from lmlt_arch.export.errors import ExportError
from lmlt_arch.files import OutputError, make_folder, write_atomic
from lmlt_arch.inference.defaults import CRF, MAX_PIXELS
from lmlt_arch.inference.engine.memory import available_memory, is_out_of_memory
from lmlt_arch.inference.engine.sizes import Size
from lmlt_arch.inference.images.decoding import decode_picture, read_bytes, read_header
from lmlt_arch.inference.images.encoding import Encoding, details_for, encode_picture, prepared
from lmlt_arch.inference.images.formats import (
    DEPTHS,
    FORMATS,
    Format,
    check_size,
    depth_for,
    depth_notes,
    format_of,
)
from lmlt_arch.inference.images.picture import Picture
from lmlt_arch.inference.jobs import Job
from lmlt_arch.inference.upscaler import Upscaled, Upscaler, far_outside, resized, to_pixels
from lmlt_arch.threads import ahead

# Pixels that may wait decoded for the network, and upscaled for their encoding.
_WAITING = 64_000_000
# Groups that may wait for the network, however small their images are.
_GROUPS = 64
_ENCODERS = 4
# Bytes for each pixel of a result while it is made, resized, rounded and encoded; twice, since half of the
# memory is left to other programs.
_BYTES_PER_RESULT_PIXEL = 2 * 64
# Results up to this many pixels are made in memory in any case.
_SMALL = 4e6


@dataclass(frozen=True)
class Result:
    """The outcome of a job.

    Attributes:
        job: the job.
        status: `done`, `skipped` (the output was there), or `failed`.
        before: size of the input.
        after: size of the output.
        error: why it failed; names the file.
        notes: parts of the input that the output lacks or holds in another form.
    """

    job: Job
    status: str
    before: Size | None = None
    after: Size | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()


def fits_in_memory() -> float:
    """Pixels of a result that can be made in memory now."""
    return max(_SMALL, available_memory(torch.device("cpu")) / _BYTES_PER_RESULT_PIXEL)


@dataclass(frozen=True)
class Settings:
    """How files are upscaled and written.

    Attributes:
        encoding: of images.
        resize: maps height and width of an input to those of its output, see `files.resize_by` and
            `files.resize_to`; None takes the network's scale.
        overwrite: replace existing outputs.
        max_pixels: larger inputs are refused.
        in_memory: images whose results have more pixels are upscaled in rows from file to file.
        suffix: added to the names of outputs.
        crf: quality of videos, lower is better.
        codec: FFmpeg's encoder of videos; None takes the usual one of the container.
    """

    encoding: Encoding = field(default_factory=Encoding)
    resize: Callable[[Size], Size] | None = None
    overwrite: bool = False
    max_pixels: float = MAX_PIXELS
    in_memory: float = field(default_factory=fits_in_memory)
    suffix: str = ""
    crf: int = CRF
    codec: str | None = None

    def size_after(self, before: Size, scale: int) -> Size:
        """Size of the result for an input."""
        return self.resize(before) if self.resize else (before[0] * scale, before[1] * scale)


@dataclass(frozen=True)
class Plan:
    """An input that can be upscaled, and its output.

    Attributes:
        job: the files.
        before: size of the input.
        after: size of the output.
        format: of the output.
        picture: the input; None where it is too large for memory.
    """

    job: Job
    before: Size
    after: Size
    format: Format
    picture: Picture | None


Large = Callable[[Plan], tuple[str, ...]]
"""Upscales an input that is too large for memory, and returns notes, see `Result`."""


def upscale_images(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    settings: Settings,
    *,
    large: Large,
    progress: Callable[[float], object] = lambda images: None,
) -> Iterator[Result]:
    """Upscale images; one that cannot be upscaled does not stop the others.

    Args:
        jobs: the files.
        upscaler: upscales.
        settings: how to write.
        large: for results of more than `settings.in_memory` pixels.
        progress: called with the part of an image, or the number of images, that are done.

    Yields:
        The results, more or less in the order of the jobs.

    Raises:
        OutputError: the disk is full.
    """
    work = _Work(upscaler, settings, progress)
    written: deque[Future[Result]] = deque()
    # Not `threads.in_pool` for the encoders, which counts items: a few of these would fill the memory. What
    # waits is bounded in pixels.
    with ahead(work.load_all(jobs), _GROUPS) as groups, ThreadPoolExecutor(_ENCODERS) as encoders:
        try:
            for group in groups:
                if isinstance(group, Result):
                    yield group
                elif group[0].picture is None:
                    yield work.attempt(group[0], partial(large, group[0]))
                else:
                    for plan, output in work.upscale(group):
                        if isinstance(output, Result):
                            yield output
                        else:
                            work.outgoing.take(output.planes.numel())
                            written.append(encoders.submit(work.write, plan, output))
                while written and written[0].done():
                    yield written.popleft().result()
            while written:
                yield written.popleft().result()
        finally:
            work.stop()
            encoders.shutdown(wait=True, cancel_futures=True)


class _Work:
    """The three stages, each in threads of its own."""

    def __init__(self, upscaler: Upscaler, settings: Settings, progress: Callable[[float], object]) -> None:
        self._upscaler = upscaler
        self._settings = settings
        self._progress = progress
        self._stopped = False
        self.incoming = _Budget(_WAITING)
        self.outgoing = _Budget(3 * _WAITING)

    def stop(self) -> None:
        """Let waiting threads go, and load nothing more."""
        self._stopped = True
        self.incoming.close()
        self.outgoing.close()

    def load_all(self, jobs: Iterable[Job]) -> Generator[list[Plan] | Result, None, None]:
        """Read files in order; neighbors of one size come as a group, up to the network's batch size."""
        group: list[Plan] = []
        for job in jobs:
            if self._stopped:
                return
            entry = self._plan(job)
            joins = isinstance(entry, Plan) and group and entry.before == group[0].before
            if group and not joins:
                # Before waiting for memory: the group gives its own back only when it is done.
                yield group
                group = []
            if isinstance(entry, Plan) and not self._is_large(entry):
                entry = self._decoded(entry)
            if isinstance(entry, Result):
                yield entry
                continue
            group.append(entry)
            if entry.picture is None or len(group) >= self._most(entry.before):
                yield group
                group = []
        if group:
            yield group

    def _most(self, size: Size) -> int:
        """Images of a size in a group, which wait for memory together."""
        return max(1, min(self._upscaler.batch(*size), _WAITING // 2 // (size[0] * size[1])))

    def _plan(self, job: Job) -> Plan | Result:
        """Look at a file, and refuse at once what could not be written."""
        settings = self._settings
        if (settled := settle(job, overwrite=settings.overwrite)) is not None:
            return settled
        try:
            name = str(job.source)
            header = read_header(job.source, name, max_pixels=settings.max_pixels)
            before = (header.height, header.width)
            after = settings.size_after(before, self._upscaler.scale)
            chosen = FORMATS[settings.encoding.format or format_of(job.target) or header.format]
            check_size(after, chosen, name)
            depth_for(chosen, settings.encoding.depth, 8)
        except (ImageError, MemoryError) as error:
            return Result(job, "failed", error=str(error) or f"{job.source}: not enough memory to read it")
        return Plan(job, before, after, chosen, None)

    def _is_large(self, plan: Plan) -> bool:
        sizes = (self._upscaler.made(plan.before, plan.after), plan.after)
        return max(height * width for height, width in sizes) > self._settings.in_memory

    def _decoded(self, plan: Plan) -> Plan | Result:
        settings, name = self._settings, str(plan.job.source)
        pixels = plan.before[0] * plan.before[1]
        self.incoming.take(pixels)
        try:
            data = read_bytes(plan.job.source)
            picture = decode_picture(data, name, max_pixels=settings.max_pixels)
            return replace(plan, picture=prepared(picture, plan.format, settings.encoding, name))
        except (ImageError, MemoryError) as error:
            self.incoming.give(pixels)
            return _failed(plan, str(error) or f"{name}: not enough memory to decode it")

    def upscale(self, plans: list[Plan]) -> Iterator[tuple[Plan, Upscaled | Result]]:
        """Run the network on inputs of one size."""
        pictures = [plan.picture for plan in plans if plan.picture is not None]
        images = [picture.pixels() for picture in pictures]
        height, width = plans[0].before
        pixels = height * width * sum(self._upscaler.passes(image) for image in images)
        try:
            outputs = self._upscaler.upscale_planes(
                images,
                lambda done: self._progress(done / pixels * len(images)),
                size=self._upscaler.made(plans[0].before, plans[0].after),
            )
        except (ExportError, MemoryError, RuntimeError) as error:
            reason = why(error)
            yield from ((plan, _failed(plan, f"{plan.job.source}: {reason}")) for plan in plans)
            return
        finally:
            for plan in plans:
                self.incoming.give(plan.before[0] * plan.before[1])
        yield from zip(plans, outputs, strict=True)

    def write(self, plan: Plan, output: Upscaled) -> Result:
        """Resize, round, encode and write."""
        taken = output.planes.numel()
        try:
            return self.attempt(plan, lambda: self._write(plan, output))
        finally:
            self.outgoing.give(taken)

    def _write(self, plan: Plan, output: Upscaled) -> tuple[str, ...]:
        picture, encoding = plan.picture, self._settings.encoding
        assert picture is not None
        depth = depth_for(plan.format, encoding.depth, picture.depth)
        result = picture.with_pixels(to_pixels(resized(output.planes, *plan.after), DEPTHS[depth]))
        try:
            details = details_for(result, plan.format)
            data = encode_picture(result, plan.format, encoding.quality, details)
        except ImageError:
            raise
        except Exception as error:
            # Encoders raise nearly anything, as decoders do.
            raise ImageError(f"{plan.job.target} cannot be encoded: {why(error)}") from error
        make_folder(plan.job.target.parent)
        write_atomic(plan.job.target, data)
        fewer = depth_notes(plan.format, encoding.depth, picture.depth)
        excess = far_outside(output.low, output.high)
        return (*details.notes, *fewer, *([excess] if excess else []))

    def attempt(self, plan: Plan, action: Callable[[], tuple[str, ...]]) -> Result:
        """The result of an action on a file, which returns notes.

        Raises:
            OutputError: the disk is full, so that all others would fail too.
        """
        try:
            notes = action()
        except OutputError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            return _failed(plan, str(error))
        except ImageError as error:
            return _failed(plan, str(error))
        except (MemoryError, RuntimeError) as error:
            return _failed(plan, f"{plan.job.source}: {why(error)}")
        return Result(plan.job, "done", plan.before, plan.after, notes=notes)


def settle(job: Job, *, overwrite: bool) -> Result | None:
    """The result of a job that is decided without its file being read; None if the file must be read."""
    try:
        if job.target.is_dir():
            return Result(job, "failed", error=f"{job.target} is a folder")
        if job.target.exists() and not overwrite:
            return Result(job, "skipped")
    except OSError as error:  # a name that is too long, for instance
        return Result(job, "failed", error=f"{job.target}: {error.strerror or error}")
    # Some file systems refuse the name only when the file is written, which may be hours of video later.
    if (length := len(os.fsencode(job.target.name))) > LONGEST_NAME:
        fix = f"name too long, {length} bytes and not {LONGEST_NAME}: rename the input, or shorten --suffix"
        return Result(job, "failed", error=f"{job.target}: {fix}")
    reason = why_no_file(job.source)
    return None if reason is None else Result(job, "failed", error=f"{job.source} {reason}")


def why(error: Exception) -> str:
    """The message of an error of a library, in one line."""
    if is_out_of_memory(error):
        return "not enough memory"
    return f"{(str(error).strip() or type(error).__name__).splitlines()[0]:.200}"


def _failed(plan: Plan, error: str) -> Result:
    return Result(plan.job, "failed", plan.before, error=error)


class _Budget:
    """A limit on what is in use at once; a request above the limit is granted when nothing else is in use."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, amount: int) -> None:
        """Wait until the amount is free."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._used or self._used + amount <= self._most
            )
            self._used += amount

    def give(self, amount: int) -> None:
        """Give back."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()

    def close(self) -> None:
        """Grant every request."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
