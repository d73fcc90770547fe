"""Preparation of training data for BasicSR: sub-images, bicubic LR, meta info and LMDBs.

From `datasets/DF2K/DF2K_train_HR` with output `datasets/DF2K`, scales 2 and 4 and a crop size::

    datasets/DF2K/DF2K_train_HR_sub/0001_s001.png               HR sub-images
    datasets/DF2K/DF2K_train_LR_bicubic/X2_sub/0001_s001.png    LR of the same places
    datasets/DF2K/DF2K_train_LR_bicubic/X4_sub/0001_s001.png
    datasets/DF2K/meta_info_DF2K_train_HR_sub.txt               "0001_s001.png (480,480,3)" lines
    datasets/DF2K/DF2K_train_HR_sub.lmdb                        with lmdb=True
    datasets/DF2K/DF2K_train_LR_bicubic_X2_sub.lmdb
    datasets/DF2K/DF2K_train_LR_bicubic_X4_sub.lmdb
    datasets/DF2K/DF2K_train_HR_sub_raw.lmdb                    with raw=True, and so on

Without a crop size whole images are written: `…_HR_mod4/0001.png` and `…_LR_bicubic/X4/0001x4.png`, as
DIV2K names them (`filename_tmpl: '{}x4'`); in LMDB both have the same key.

One HR folder serves all scales, so HR is first cropped, at the bottom and the right, to multiples of the
scales' least common multiple (12 for 2, 3 and 4). LR is made from that whole image and cut afterward, so
sub-images have no border of their own. A run that was interrupted continues where it stopped: a record of
finished images, and of the options, lies in the output's folder `.lmlt_prepare`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Container, Generator, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from lmlt_arch.data.lmdb.raw_conversion import EncodedImage, write_raw_lmdb
from lmlt_arch.data.lmdb.store import LmdbImage, write_lmdb
from lmlt_arch.data.prepare.journal import Entry, Journal
from lmlt_arch.data.prepare.record import (
    find_foreign_files,
    open_journal,
    outputs,
    remove_stale,
    remove_temporaries,
)
from lmlt_arch.data.prepare.request import Plan, PrepareOptions, make_plan
from lmlt_arch.data.prepare.sources import Failure, Source, find_sources
from lmlt_arch.data.prepare.worker import process_source, start_worker
from lmlt_arch.files import OutputError, exclusive, write_atomic
from lmlt_arch.threads import in_pool

# Images handed to each worker ahead of time.
QUEUE_PER_WORKER = 4


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a run.

    Attributes:
        plan: options and folders.
        made: images finished by this run.
        kept: images that an earlier run had finished.
        outputs: HR images or sub-images that there are now.
        stale: images finished earlier whose outputs were deleted: a source or an output had changed or gone.
        short: sub-images smaller than the crop size, because their image is.
        failures: files that could not be used. If there are any, meta info and LMDB were not written.
    """

    plan: Plan
    made: int
    kept: int
    outputs: int
    stale: int
    short: int
    failures: list[Failure]


def prepare(options: PrepareOptions) -> Report:
    """Prepare a dataset, showing progress on standard error.

    Worker processes are spawned: a script that calls this needs the usual `if __name__ == "__main__":`.

    Raises:
        UsageError: the request makes no sense or contradicts an earlier run's; nothing was written.
        OutputError: outputs cannot be written (disk full, no permission) or a worker process died. What
            was finished is kept, and the same call continues.
    """
    plan = make_plan(options)
    sources, failures = find_sources(plan)
    lock, fix = plan.journal.with_suffix(".lock"), "wait until it has ended, or give another -o or --name"
    with exclusive(lock, f"lmlt prepare of {plan.hr_folder}", fix):
        wanted = [
            *(plan.lmdbs.values() if options.lmdb else ()),
            *(plan.raw_lmdbs.values() if options.raw else ()),
        ]
        journal = open_journal(plan, overwrite=options.overwrite, lmdbs=wanted)
        remove_temporaries(plan)
        stale = remove_stale(plan, journal, sources)
        todo = [source for source in sources if source.relative not in journal.entries]
        failures += _process(plan, journal, todo, options.workers)
        images = outputs(plan, journal.entries.values())
        failures += find_foreign_files(plan, images)
        if not failures:
            lines = [f"{i.path.name} ({','.join(map(str, i.shape))})\n" for i in images["HR"]]
            write_atomic(plan.meta_info, "".join(lines).encode())
            wanted += [plan.output / name for name in journal.lmdbs]
            _make_lmdbs(plan, journal, images, wanted, options.workers)
    shapes = [shape for entry in journal.entries.values() for shape in entry.shapes]
    return Report(
        plan=plan,
        made=sum(source.relative in journal.entries for source in todo),
        kept=len(sources) - len(todo),
        outputs=len(shapes),
        stale=stale,
        short=sum(min(shape) < plan.grid.crop_size for shape in shapes) if plan.grid else 0,
        failures=failures,
    )


def _process(plan: Plan, journal: Journal, todo: list[Source], workers: int) -> list[Failure]:
    """Process the sources, and record each finished one.

    Returns:
        The failures, sorted by source.
    """
    failures = []
    work = partial(process_source, plan)
    done = len(journal.entries)
    with (
        _bar(plan.hr_folder.name, total=done + len(todo), initial=done) as bar,
        closing(_results(work, todo, workers)) as results,
    ):
        for result in results:
            if isinstance(result, Failure):
                failures.append(result)
            else:
                journal.add_entry(result)
            bar.update()
    return sorted(failures, key=attrgetter("source"))


def _bar(title: str, *, total: int, initial: int = 0) -> tqdm[NoReturn]:
    """A progress bar with the time left; redrawn rarely where it goes into a log."""
    interval = 0.1 if sys.stderr.isatty() else 10
    return tqdm(desc=title, total=total, initial=initial, unit="image", mininterval=interval)


def _results(
    work: Callable[[Source], Entry | Failure], sources: Iterable[Source], workers: int
) -> Generator[Entry | Failure, None, None]:
    """Results from this process, or from spawned worker processes in the order in which they finish."""
    if not workers:
        yield from map(work, sources)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)
    try:
        with closing(in_pool(pool, work, sources, workers * QUEUE_PER_WORKER, ordered=False)) as results:
            yield from results
    except BrokenProcessPool as error:
        raise OutputError(
            "a worker process was was killed, perhaps because memory ran out: "
            "run the same command again, with fewer --workers"
        ) from error


def _make_lmdbs(
    plan: Plan,
    journal: Journal,
    images: Mapping[str, list[LmdbImage]],
    wanted: Container[Path],
    workers: int,
) -> None:
    """Write the wanted LMDB folders that are missing or outdated."""
    stamps = sorted((entry.source, entry.stamp) for entry in journal.entries.values())
    for key, found in images.items():
        contents = [(image.key, image.shape, image.size) for image in found]
        digest = hashlib.sha256(json.dumps([stamps, contents]).encode()).hexdigest()
        encoded = [EncodedImage(key=i.key, name=str(i.path), read=i.path.read_bytes) for i in found]
        for folder, write in (
            (plan.lmdbs[key], partial(write_lmdb, images=found, compression_level=plan.compression_level)),
            (plan.raw_lmdbs[key], partial(write_raw_lmdb, images=encoded, workers=workers)),
        ):
            is_there = journal.lmdbs.get(folder.name) == digest and (folder / "data.mdb").exists()
            if folder not in wanted or is_there:
                continue
            journal.add_lmdb(folder.name, "")
            with _bar(folder.name, total=len(contents)) as bar:
                write(folder, advance=bar.update)
            journal.add_lmdb(folder.name, digest)
