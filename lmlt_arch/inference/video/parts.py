"""The finished parts of a video, in a folder beside it, from which an interrupted run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmlt_arch.files import TEMPORARY_SUFFIX, make_folder, output_error, shortened, write_atomic

_JOB = "job.json"


@dataclass(frozen=True)
class Part:
    """One finished part.

    Attributes:
        width: of its frames.
        height: of its frames.
        coded: timestamps in the order of its packets.
        last_duration: how long its last frame is shown.
    """

    width: int
    height: int
    coded: list[int]
    last_duration: int


class Parts:
    """The folder of finished parts. A part counts once its record exists, which is written last.

    Args:
        target: the video that is being made.
        job: everything that determines the parts; those of another job are removed.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, target: Path, job: Mapping[str, Any]) -> None:
        self.folder = parts_folder(target)
        self.finished: list[Part] = []
        make_folder(self.folder)
        text = json.dumps(job, sort_keys=True, indent=1)
        if _read(self.folder / _JOB) == text:
            self._find()
        else:
            self._empty()
            write_atomic(self.folder / _JOB, text.encode())

    @property
    def timestamps(self) -> list[int]:
        """Timestamps of all finished frames, in the order of display."""
        return [pts for part in self.finished for pts in sorted(part.coded)]

    def temporary(self, name: str) -> Path:
        """The path for a file that is not finished."""
        return self.folder / f"{name}.{os.getpid()}{TEMPORARY_SUFFIX}"

    def commit(self, written: Path, part: Part) -> None:
        """Add a finished part.

        Args:
            written: its file, which is moved.
            part: its description.

        Raises:
            OutputError: the disk is full, and so on.
        """
        number = len(self.finished)
        try:
            with written.open("rb+") as file:
                os.fsync(file.fileno())
            written.replace(self.file(number))
        except OSError as error:
            raise output_error(written, error) from error
        write_atomic(self._record(number), json.dumps(asdict(part)).encode(), durable=True)
        self.finished.append(part)

    def file(self, number: int) -> Path:
        """The video of a part."""
        return self.folder / f"{number:06}.part"

    def remove(self) -> None:
        """Remove all that is written here, and the folder unless there is something else in it."""
        with suppress(OSError):
            self._empty()
            self.folder.rmdir()

    def _record(self, number: int) -> Path:
        return self.folder / f"{number:06}.json"

    def _find(self) -> None:
        """Find the finished parts up to the first gap, and remove the rest."""
        while (text := _read(self._record(len(self.finished)))) is not None:
            try:
                part = Part(**json.loads(text))
            except (ValueError, TypeError):
                break
            if not self.file(len(self.finished)).is_file():
                break
            self.finished.append(part)
        numbers = range(len(self.finished))
        self._empty({self.folder / _JOB, *map(self.file, numbers), *map(self._record, numbers)})

    def _empty(self, keep: Collection[Path] = ()) -> None:
        # Only what is written here, should the folder hold anything else.
        for pattern in (_JOB, "[0-9]*.json", "[0-9]*.part", f"*{TEMPORARY_SUFFIX}", f".*{TEMPORARY_SUFFIX}"):
            for path in self.folder.glob(pattern):
                if path not in keep:
                    path.unlink(missing_ok=True)


def remove_of_finished(target: Path) -> None:
    """Remove the parts of a finished video that a killed process has left.

    Parts that are newer than the video are kept: they belong to one that is to replace it.
    """
    folder = parts_folder(target)
    with suppress(OSError):
        if folder.is_dir() and max(map(_changed, folder.iterdir()), default=0) <= _changed(target):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


def parts_folder(target: Path) -> Path:
    """The folder of the parts of a video."""
    return target.with_name(f".{shortened(target.name)}.parts")


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
