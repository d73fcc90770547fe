"""The state of the output folders of `lmlt prepare`: finished, outdated and foreign files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Container, Iterable, Mapping
from operator import attrgetter
from pathlib import Path

from lmlt_arch.data.lmdb.store import LmdbImage
from lmlt_arch.data.prepare.journal import Entry, Journal
from lmlt_arch.data.prepare.request import Plan
from lmlt_arch.data.prepare.sources import Failure, Source
from lmlt_arch.errors import UsageError
from lmlt_arch.files import TEMPORARY_SUFFIX, make_folder


def open_journal(plan: Plan, *, overwrite: bool, lmdbs: Collection[Path]) -> Journal:
    """Continue the journal of an earlier run, or start one in empty folders.

    Args:
        plan: the options and folders.
        overwrite: delete what an earlier run recorded.
        lmdbs: LMDB folders that will be written; earlier ones stay until the new ones replace them.

    Raises:
        UsageError: the options differ from those of the earlier run, or a folder was not made by one.
    """
    options = plan.fingerprint()
    journal = Journal.read(plan.journal)
    replaced: dict[str, str] = {}
    if journal is not None and overwrite:
        replaced = {folder.name: "" for folder in lmdbs if folder.name in journal.lmdbs}
        _remove_all(plan, journal, keep=replaced)
        journal = None
    elif journal is not None and journal.options != options:
        before = journal.options
        changes = [
            f"--{key} was {before.get(key)}, now {now}"
            for key, now in options.items()
            if before.get(key) != now
        ]
        raise UsageError(
            f"{plan.hr_folder} was prepared with other options: {'; '.join(changes)}. "
            "Give the same options to continue, another -o or --name to keep both, or --overwrite to start "
            "again"
        )
    strange = [
        folder
        for folder in plan.folders.values()
        if journal is None and folder.exists() and any(folder.iterdir())
    ]
    made = journal.lmdbs if journal else replaced
    strange += [folder for folder in lmdbs if folder.exists() and folder.name not in made]
    if strange:
        raise UsageError(
            f"{strange[0]} exists but was not made here: remove it or choose another -o or --name"
        )
    if journal is None:
        folders = {key: folder.relative_to(plan.output).as_posix() for key, folder in plan.folders.items()}
        journal = Journal(plan.journal, options, folders, lmdbs=replaced)
    journal.save()
    for folder in plan.folders.values():
        make_folder(folder)
    return journal


def _remove_all(plan: Plan, journal: Journal, keep: Container[str]) -> None:
    """Delete everything that a journal records except the LMDB folders `keep`."""
    for entry in journal.entries.values():
        _remove_outputs(plan, journal, entry)
    for name in journal.lmdbs:
        if name not in keep:
            shutil.rmtree(plan.output / name, ignore_errors=True)
    plan.meta_info.unlink(missing_ok=True)


def _remove_outputs(plan: Plan, journal: Journal, entry: Entry) -> None:
    for key, folder in journal.folders.items():
        for stem in _stems(plan, entry, key):
            (plan.output / folder / f"{stem}.png").unlink(missing_ok=True)


def _stems(plan: Plan, entry: Entry, key: str) -> list[str]:
    """Names without suffix of an entry's outputs in the folder `key`."""
    return [plan.file_stem(key, name) for name in plan.piece_names(entry.name, len(entry.shapes))]


def remove_temporaries(plan: Plan) -> None:
    """Remove the temporary files of a killed run."""
    for folder in plan.folders.values():
        for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)


def remove_stale(plan: Plan, journal: Journal, sources: Iterable[Source]) -> int:
    """Drop finished images that are missing, changed or incomplete, and delete their outputs.

    Returns:
        How many there were.
    """
    present = {key: _file_sizes(folder) for key, folder in plan.folders.items()}
    by_name = {source.relative: source for source in sources}
    stale = []
    for entry in journal.entries.values():
        source = by_name.get(entry.source)
        complete = all(
            present[key].get(f"{stem}.png") == size
            for key in present
            for stem, size in zip(_stems(plan, entry, key), entry.sizes[key], strict=True)
        )
        if source is None or not complete or source.stamp() != entry.stamp:
            stale.append(entry)
    for entry in stale:
        _remove_outputs(plan, journal, entry)
        del journal.entries[entry.source]
    if stale:
        journal.save()
    return len(stale)


def _file_sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as files:
        return {file.name: file.stat().st_size for file in files if not file.name.startswith(".")}


def outputs(plan: Plan, entries: Iterable[Entry]) -> dict[str, list[LmdbImage]]:
    """All written images, by output folder, sorted by name."""
    images: dict[str, list[LmdbImage]] = {key: [] for key in plan.folders}
    for entry in sorted(entries, key=attrgetter("name")):
        names = plan.piece_names(entry.name, len(entry.shapes))
        for key, folder in plan.folders.items():
            scale = plan.scale(key)
            images[key] += [
                LmdbImage(
                    key=name,
                    path=folder / f"{stem}.png",
                    shape=(height // scale, width // scale, 3),
                    size=size,
                )
                for name, stem, (height, width), size in zip(
                    names, _stems(plan, entry, key), entry.shapes, entry.sizes[key], strict=True
                )
            ]
    return images


def find_foreign_files(plan: Plan, images: Mapping[str, Iterable[LmdbImage]]) -> list[Failure]:
    """Files in the output folders that belong to no source: BasicSR would train on them."""
    return [
        Failure(source=str(plan.folders[key] / name), reason="belongs to no source image: remove it")
        for key, known in images.items()
        for name in sorted(_file_sizes(plan.folders[key]).keys() - {image.path.name for image in known})
    ]
