"""The files to upscale, and where the results go."""

from __future__ import annotations

import codecs
import glob
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lmlt_arch.data.listing import kind_of, look_through, passed_over
from lmlt_arch.errors import UsageError
from lmlt_arch.inference.images.formats import FORMATS, SUFFIXES, format_of
from lmlt_arch.inference.video.formats import OUTPUT_SUFFIXES, VIDEO_SUFFIXES

_SUFFIXES = SUFFIXES | VIDEO_SUFFIXES


@dataclass(frozen=True)
class Job:
    """A file to upscale.

    Attributes:
        source: the file.
        target: where the result goes.
    """

    source: Path
    target: Path


@dataclass(frozen=True)
class Work:
    """The files that are read and written.

    Attributes:
        jobs: each has an output of its own.
        refused: jobs that cannot be done, and why; they do not stop the rest.
        notes: one line for each folder that holds other files too.
    """

    jobs: list[Job] = field(default_factory=list)
    refused: list[tuple[Job, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_list(data: bytes) -> list[str]:
    """The names in a list: one a line, or with zeros between them, as `find -print0` writes it.

    Blanks and a carriage return at a line's end belong to a name only if there is such a file.

    Raises:
        UsageError: it is in UTF-16, as it begins, but cannot be read as that.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise UsageError("the list is damaged: it begins as UTF-16 does, and is none") from error
    else:
        text = os.fsdecode(data.removeprefix(codecs.BOM_UTF8))
    lines = text.split("\0" if "\0" in text else "\n")
    return [line if os.path.lexists(line) else line.strip() for line in lines if line.strip()]


def find_jobs(
    inputs: Iterable[str],
    output: Path,
    *,
    format: str | None = None,
    ending: str = "",
) -> Work:
    """Find the files to read, and name the files to write.

    Args:
        inputs: files, folders (searched at any depth, their structure kept) and patterns such as
            `photos/**/*.jpg`.
        output: a folder, or a file if there is one file to write.
        format: key of `FORMATS`; None keeps each file's.
        ending: added to the names.

    Raises:
        UsageError: something is missing, nothing is found, a result would replace an input, or every result
            would replace another or lie outside of the output folder.
    """
    if Path(ending).name != ending and ending:
        raise UsageError(f"--suffix {ending} cannot be part of a file's name")
    inputs = list(inputs)
    work = Work()
    found = [entry for text in inputs for entry in _expand(text, output, work)]
    if not found and not work.refused:
        said = "".join(f" ({note})" for note in work.notes)
        raise UsageError(f"no images or videos in {', '.join(inputs) or 'the list'}{said}")
    single = output.suffix.lower() in _SUFFIXES and not output.is_dir()
    if single and len(found) > 1:
        raise UsageError(f"{len(found)} files cannot all become {output}: name a folder")
    if single and found and is_video(output) != is_video(found[0][0]):
        raise UsageError(f"{found[0][0]} cannot become {output}: one is a video, the other an image")
    if single and format is not None and format_of(output) != format:
        raise UsageError(f"--format {format} does not go with {output}: leave one of them out")
    if single:
        jobs = [Job(source, output) for source, _ in found]
    else:
        if output.exists() and not output.is_dir():
            raise UsageError(
                f"{output} is a file: name a folder, or a file that ends in {', '.join(sorted(SUFFIXES))}"
            )
        jobs = [
            Job(source, output / relative.with_name(_name(source, format, ending)))
            for source, relative in found
        ]
    _divide(jobs, output.parent if single else output, work)
    return work


def _name(source: Path, format: str | None, ending: str) -> str:
    if is_video(source):
        suffix = source.suffix if source.suffix.lower() in OUTPUT_SUFFIXES else ".mkv"
    elif format is None and format_of(source) is not None:
        suffix = source.suffix
    else:
        suffix = FORMATS[format or "png"].suffix
    return f"{source.stem}{ending}{suffix}"


def _expand(text: str, output: Path, work: Work) -> Iterator[tuple[Path, Path]]:
    """Files, and their places below the output folder."""
    path = Path(text)
    if path.is_dir():
        below = look_through(path, _SUFFIXES)
        work.notes.extend(passed_over(path, below.others))
        for error in below.unreadable:
            folder = Path(error.filename)
            work.refused.append((Job(folder, output), f"{folder} cannot be read: {error.strerror}"))
        for relative in below.images:
            if not _is_result(path / relative, output, path):
                yield path / relative, Path(relative)
    elif os.path.lexists(path):
        yield path, Path(path.name)
    elif glob.has_magic(text):
        matches = [match for match in sorted(_matches(text)) if not match.is_dir()]
        files = [match for match in matches if match.suffix.lower() in _SUFFIXES]
        work.notes.extend(passed_over(path, Counter(map(kind_of, {*matches}.difference(files)))))
        if not files:
            raise UsageError(f"nothing matches {text}")
        root = _fixed_part(text)
        for file in files:
            if not _is_result(file, output, root):
                yield file, Path(os.path.relpath(file, root))
    else:
        raise UsageError(f"no such file or folder: {text}")


def _is_result(file: Path, output: Path, root: Path) -> bool:
    """Whether a file below a folder is the result of an earlier run, and not its input."""
    own = _real(output)
    return own != _real(root) and _real(file).is_relative_to(own)


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before the first wildcard."""
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))


def _matches(pattern: str) -> Iterator[Path]:
    root = _fixed_part(pattern)
    return root.glob(str(Path(pattern).relative_to(root)))


def _divide(jobs: list[Job], output: Path, work: Work) -> None:
    """Add to the work the jobs that can be done, once each, and why others cannot.

    Raises:
        UsageError: none can be done, or one would replace an input.
    """
    sources = {_real(job.source) for job in jobs}
    # Where case makes no difference between names, those that differ in it are one file.
    by_target: defaultdict[str, dict[Path, Job]] = defaultdict(dict)
    for job in jobs:
        by_target[str(_real(job.target)).casefold()].setdefault(_real(job.source), job)
    for together in by_target.values():
        one, *others = together.values()
        if others:
            names = f"{', '.join(str(job.source) for job in (one, *others[:-1]))} and {others[-1].source}"
            both = "both" if len(others) == 1 else "all"
            reason = f"{names} would {both} become {others[-1].target}: upscale them into two folders"
        elif not _real(one.target.parent).is_relative_to(_real(output)):
            reason = f"{one.target} leads out of {output}, by a link or by .. in a pattern: name the file"
        elif _real(one.target) in sources:
            # Not of one file only: the others may be results of such a run, which must not be upscaled again.
            raise UsageError(f"{one.target} would replace an input: choose another folder, or a --suffix")
        else:
            work.jobs.append(one)
            continue
        work.refused.extend((job, reason) for job in together.values())
    if jobs and not work.jobs:
        raise UsageError(work.refused[0][1])


def _real(path: Path) -> Path:
    """The file that a path leads to; a circle of links fails when it is read."""
    return Path(os.path.realpath(path))
