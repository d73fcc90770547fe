"""The record that makes ``lmlt prepare`` resumable: what was made, from which files, with which options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmlt_arch.files import OutputError, make_folder, output_error, write_atomic

# Raised when the same options would give other files than before.
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finished source image.

    Attributes:
        source: Path of the HR image, relative to the input folder.
        stamp: Sizes and modification times of the files it was made from.
        name: Name of its outputs, before any sub-image number.
        shapes: (height, width) of each HR output, in order.
        sizes: For each output folder, the lengths in bytes of this image's files there, in the same order.
    """

    source: str
    stamp: list[int]
    name: str
    shapes: list[list[int]]
    sizes: dict[str, list[int]]


@dataclass
class Journal:
    """A file of JSON lines: the options, then one line per finished image or LMDB folder.

    Lines are only ever appended, by one process, and a line cut short by a crash is ignored when read.

    Attributes:
        path: The file.
        options: What the outputs depend on, besides the input files.
        folders: Output folders of images by key, relative to the data set's output.
        entries: The finished images, by source.
        lmdbs: For each LMDB folder made here, a digest of what is in it, or "" while it is being made.
    """

    path: Path
    options: Mapping[str, Any]
    folders: Mapping[str, str]
    entries: dict[str, Entry] = field(default_factory=dict)
    lmdbs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Journal | None:
        """The journal at a path, or None where there is none yet."""
        if not path.exists():
            return None
        journal = None
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if journal is None:
                if record.get("format") != FORMAT:
                    raise OutputError(
                        f"{path} was written by another version of lmlt: start again with --overwrite"
                    )
                journal = cls(path, record["options"], record["folders"])
            elif "lmdb" in record:
                journal.lmdbs[record["lmdb"]] = record["digest"]
            else:
                entry = Entry(**record)
                journal.entries[entry.source] = entry
        return journal

    def save(self) -> None:
        """Write the whole journal anew."""
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
        """Record an LMDB folder: before it is made with an empty digest, and afterwards."""
        self.lmdbs[name] = digest
        self._append({"lmdb": name, "digest": digest})

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise output_error(self.path, error) from error


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"
