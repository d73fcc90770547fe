"""The journal by which `lmlt prepare` resumes: finished images, their source files, and the options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmlt_arch.files import OutputError, make_folder, output_error, write_atomic

# Increased when equal options would give other files than before.
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finished source image.

    Attributes:
        source: path of the HR image, relative to the input folder.
        stamp: sizes and modification times of the files it was made from.
        name: name of its outputs, before any sub-image number.
        shapes: (height, width) of each HR output, in order.
        sizes: for each output folder, the lengths in bytes of this image's files there, in the same order.
    """

    source: str
    stamp: list[int]
    name: str
    shapes: list[list[int]]
    sizes: dict[str, list[int]]


@dataclass
class Journal:
    """A file of JSON lines: the options, then one line per finished image or LMDB folder.

    Lines are only ever appended, by one process, and a last line cut short by a crash is ignored when read.

    Attributes:
        path: the file.
        options: all that determines the outputs, besides the input files.
        folders: output folders of images by key, relative to the dataset's output.
        entries: the finished images, by source.
        lmdbs: for each LMDB folder made here, a digest of what is in it, or "" while it is being made.
    """

    path: Path
    options: Mapping[str, Any]
    folders: Mapping[str, str]
    entries: dict[str, Entry] = field(default_factory=dict)
    lmdbs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Journal | None:
        """Read the journal at a path; None if there is none.

        Raises:
            OutputError: it was written by another version, or a line of it is none of ours.
        """
        if not path.exists():
            return None
        journal = None
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line.decode())
            except (ValueError, RecursionError):
                if number in (1, len(lines)) or not line:
                    continue  # cut short by a crash
                raise _no_record(path, number) from None
            if journal is None:
                if not isinstance(record, dict) or record.get("format") != FORMAT:
                    raise OutputError(
                        f"{path}:{number}: this record was written by another version of lmlt, or is "
                        "damaged: remove it and the folders that it made, or choose another -o"
                    )
                journal = cls(path, record.get("options") or {}, record.get("folders") or {})
                good = bool(journal.folders) and isinstance(journal.options, dict)
                good = good and _is_folders(journal.folders)
            else:
                good = journal._take(record)
            if not good:
                raise _no_record(path, number)
        return journal

    def _take(self, record: object) -> bool:
        """Add the record of a line; False if it is not valid."""
        if not isinstance(record, dict):
            return False
        if "lmdb" in record:
            name: Any = record["lmdb"]
            digest: Any = record.get("digest")
            good = _is_name(name) and name.endswith(".lmdb") and isinstance(digest, str)
            if good:
                self.lmdbs[name] = digest
            return good
        try:
            entry = Entry(**record)
        except TypeError:  # other keys
            return False
        good = _is_entry(entry, self.folders)
        if good:
            self.entries[entry.source] = entry
        return good

    def save(self) -> None:
        """Write the whole journal again."""
        make_folder(self.path.parent)
        records: list[Mapping[str, Any]] = [
            {"format": FORMAT, "options": self.options, "folders": self.folders}
        ]
        records += [asdict(entry) for entry in self.entries.values()]
        records += [{"lmdb": name, "digest": digest} for name, digest in self.lmdbs.items()]
        write_atomic(self.path, "".join(map(_line, records)).encode())

    def add_entry(self, entry: Entry) -> None:
        """Record a finished image."""
        self.entries[entry.source] = entry
        self._append(asdict(entry))

    def add_lmdb(self, name: str, digest: str) -> None:
        """Record an LMDB folder: before it is made with an empty digest, and afterward."""
        self.lmdbs[name] = digest
        self._append({"lmdb": name, "digest": digest})

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise output_error(self.path, error) from error


def _no_record(path: Path, number: int) -> OutputError:
    return OutputError(
        f"{path}:{number}: is no record of lmlt prepare: remove this line; its outputs are made again"
    )


def _is_name(name: object) -> bool:
    """Whether something names a file right in a folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\\", "\0"} & {*name}


def _is_folders(folders: object) -> bool:
    return isinstance(folders, dict) and all(
        isinstance(key, str) and isinstance(folder, str) and all(map(_is_name, folder.split("/")))
        for key, folder in folders.items()
    )


def _is_entry(entry: Entry, folders: Mapping[str, str]) -> bool:
    """Whether a record has valid types, and the right lengths for each folder."""
    return (
        isinstance(entry.source, str)
        and _is_name(entry.name)
        and _are_counts(entry.stamp)
        and isinstance(entry.shapes, list)
        and all(_are_counts(shape) and len(shape) == 2 for shape in entry.shapes)
        and isinstance(entry.sizes, dict)
        and entry.sizes.keys() == folders.keys()
        and all(_are_counts(sizes) and len(sizes) == len(entry.shapes) for sizes in entry.sizes.values())
    )


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"
