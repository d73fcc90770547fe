"""Which files are enlarged, and where the results go."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lmlt_arch.data.files import list_images
from lmlt_arch.inference.pictures import FORMATS, SUFFIXES, format_of
from lmlt_arch.inference.video import OUTPUT_SUFFIXES, VIDEO_SUFFIXES

_SUFFIXES = SUFFIXES | VIDEO_SUFFIXES


class UsageError(ValueError):
    """What was asked for cannot be meant; nothing has been written."""


@dataclass(frozen=True)
class Job:
    """A file to enlarge.

    Attributes:
        source: the file.
        target: where the result goes.
    """

    source: Path
    target: Path


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_jobs(
    inputs: Iterable[str],
    output: Path,
    *,
    format: str | None = None,
    ending: str = "",
) -> list[Job]:
    """Plan what is read and written.

    Args:
        inputs: files, folders (searched at any depth, their structure kept) and patterns such as
            `photos/**/*.jpg`.
        output: a folder, or a file if there is one file to write.
        format: key of `FORMATS`; None keeps each file's.
        ending: is added to the names.

    Raises:
        UsageError: something is missing, nothing is found, or results would replace each other or an input.
    """
    if Path(ending).name != ending and ending:
        raise UsageError(f"--suffix {ending} cannot be part of a file's name")
    inputs = list(inputs)
    found = [entry for text in inputs for entry in _expand(text, output)]
    if not found:
        raise UsageError(f"no images or videos in {', '.join(inputs) or 'the list'}")
    single = output.suffix.lower() in _SUFFIXES and not output.is_dir()
    if single and len(found) > 1:
        raise UsageError(f"{len(found)} files cannot all become {output}: name a folder")
    if single and is_video(output) != is_video(found[0][0]):
        raise UsageError(f"{found[0][0]} cannot become {output}: one is a video, the other an image")
    if single and format is not None and format_of(output) != format:
        raise UsageError(f"--format {format} does not go with {output}: leave one of them out")
    if single:
        jobs = [Job(found[0][0], output)]
    else:
        if output.exists() and not output.is_dir():
            raise UsageError(
                f"{output} is a file: name a folder, or a file that ends in {', '.join(sorted(SUFFIXES))}"
            )
        jobs = [
            Job(source, output / relative.with_name(_name(source, format, ending)))
            for source, relative in found
        ]
    # Once each: two writers of one file would take it from each other.
    jobs = list(dict.fromkeys(jobs))
    _refuse_clashes(jobs)
    return jobs


def _name(source: Path, format: str | None, ending: str) -> str:
    if is_video(source):
        suffix = source.suffix if source.suffix.lower() in OUTPUT_SUFFIXES else ".mkv"
    elif format is None and format_of(source) is not None:
        suffix = source.suffix
    else:
        suffix = FORMATS[format or "png"].suffix
    return f"{source.stem}{ending}{suffix}"


def _expand(text: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """Files, and their places below the output folder."""
    path = Path(text)
    if path.is_dir():
        for relative in list_images(path, _SUFFIXES):
            if not _is_result(path / relative, output, path):
                yield path / relative, Path(relative)
    elif path.exists():
        yield path, Path(path.name)
    elif glob.has_magic(text):
        matches = sorted(_matches(text))
        files = [match for match in matches if match.is_file() and match.suffix.lower() in _SUFFIXES]
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
    own = output.resolve()
    return own != root.resolve() and file.resolve().is_relative_to(own)


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before the first wildcard."""
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))


def _matches(pattern: str) -> Iterator[Path]:
    root = _fixed_part(pattern)
    return root.glob(str(Path(pattern).relative_to(root)))


def _refuse_clashes(jobs: list[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    targets: dict[str, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources:
            raise UsageError(f"{job.target} would replace an input: choose another folder, or a --suffix")
        # Where case makes no difference between names, these are one file too.
        other = targets.setdefault(str(target).casefold(), job.source)
        if other != job.source:
            raise UsageError(
                f"{other} and {job.source} would both become {job.target}: enlarge them into two folders"
            )
