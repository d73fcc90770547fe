"""One decision of all processes on the checkpoint to go on from, and its files on every disk.

Machines need not share a disk. The newest set that is whole on any of them is taken; state and networks reach
the others through the process group, and so does the file of a rank that now runs on another machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lmlt_arch.checkpoints.read import CheckpointError
from lmlt_arch.checkpoints.sets import (
    Checkpoints,
    counted,
    digest_of,
    in_short,
    manifest_file,
    newer_of_others,
    none_is_whole,
    rank_file,
    run_of,
)
from lmlt_arch.files import OutputError, write_atomic
from lmlt_arch.group import gathered, is_first_here

REPLACED = ".replaced"
"""Added to the name of a file of another set of the same iteration, in whose place one was received."""


@dataclass(frozen=True)
class _Seen:
    """What a process sees of a set.

    Attributes:
        common: digests of its state and networks by their names, if all of them are whole.
        fault: what is wrong with those that are there.
        own_fault: what is wrong with the file of this rank, or that it is missing although it is listed.
        own_missing: whether the file of this rank is not there.
        ranks: the ranks whose files are there.
    """

    common: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    own_fault: str = ""
    own_missing: bool = False
    ranks: tuple[int, ...] = ()


def agreed_set(own: Checkpoints) -> tuple[Path | None, str]:
    """The newest set that is whole on the disk of any process; all of them call this.

    Args:
        own: the sets that this process sees, and its rank.

    Returns:
        The state on this process's disk, None if there is no set anywhere, and what was wrong with newer
        sets, or with copies of this one, if anything.

    Raises:
        CheckpointError: there are sets, and none is whole; or one could not be received.
    """
    faults: list[str] = []
    listed = gathered(own.iterations_by_run())
    strict = bool(own.run) and any(own.run in found for found in listed)
    for iteration in sorted(counted(listed, own), reverse=True):
        seen = gathered(_look(own, iteration, strict=strict and iteration > own.began))
        wrong = [*dict.fromkeys(_refusals(own, iteration, seen))]
        faults += [text for text in wrong if text not in faults]
        if wrong:
            continue
        faults += [text for text in _deliver(own, iteration, seen) if text not in faults]
        faults += newer_of_others(listed, own, iteration)
        return own.states / f"{iteration}.state", in_short(faults)
    if faults:
        raise CheckpointError(none_is_whole(own.states, faults))
    return None, ""


def _look(own: Checkpoints, iteration: int, *, strict: bool) -> _Seen:
    assert own.rank is not None
    state, mine = own.states / f"{iteration}.state", rank_file(own.states, iteration, own.rank)
    common, fault, own_fault = {}, "", ""
    if strict and state.exists() and run_of(state) not in (own.run, None):
        return _Seen(own_missing=True)
    if state.exists():
        try:
            common = {path.name: digest_of(path) for path in own.common_files(state)}
        except (CheckpointError, OSError) as error:
            fault = str(error)
    try:
        own.check_ranks(own.states, iteration)
    except (CheckpointError, OSError) as error:
        own_fault = str(error)
    others = own.states.glob(f"{iteration}.rank*.pth")
    ranks = (path.name.split(".")[1].removeprefix("rank") for path in others)
    there = tuple(sorted(int(rank) for rank in ranks if rank.isdigit()))
    return _Seen(common, fault, own_fault, not mine.exists(), there)


def _refusals(own: Checkpoints, iteration: int, seen: list[_Seen]) -> Iterable[str]:
    """Why a set cannot be taken."""
    if not any(each.common for each in seen):
        yield from (each.fault for each in seen if each.fault)
    for rank, each in enumerate(seen):
        elsewhere = any(rank in other.ranks for other in seen)
        if each.own_fault and not (each.own_missing and elsewhere):
            yield each.own_fault


def _deliver(own: Checkpoints, iteration: int, seen: list[_Seen]) -> list[str]:
    """Let every process have the files of a set; returns what is to be said of copies that were replaced."""
    assert own.rank is not None
    source = next(rank for rank, each in enumerate(seen) if each.common)
    common = seen[source].common
    said = [each.fault for each in seen if each.fault]
    said += [
        f"process {rank} had another checkpoint {iteration}, whose files are kept as *{REPLACED}"
        for rank, each in enumerate(seen)
        if each.common and each.common != common
    ]
    failure = _set_aside(own, iteration) if seen[own.rank].common != common else ""
    # The state last: without it, a set that a kill leaves incomplete is none.
    for name, digest in reversed(common.items()):
        lacking = [rank for rank, each in enumerate(seen) if each.common.get(name) != digest]
        if lacking:
            path = (own.states if name.endswith(".state") else own.models) / name
            writes = own.rank in lacking and is_first_here()
            failure = _send(path, source, own.rank, write=writes) or failure
    for rank, each in enumerate(seen):
        holders = [other for other, view in enumerate(seen) if rank in view.ranks]
        if each.own_missing and holders:
            path = rank_file(own.states, iteration, rank)
            failure = _send(path, holders[0], own.rank, write=own.rank == rank) or failure
    failures = [text for text in gathered(failure) if text]
    if failures:
        raise CheckpointError(f"checkpoint {iteration} was not received: {in_short(failures)}")
    return said


def _set_aside(own: Checkpoints, iteration: int) -> str:
    """Rename another set of an iteration, its state first; returns why that is impossible, or ''."""
    files = [own.states / f"{iteration}.state", manifest_file(own.states, iteration)]
    files += [own.models / f"{name}_{iteration}.pth" for name in own.networks]
    try:
        for file in files if is_first_here() else ():
            if file.exists():
                file.replace(file.with_name(file.name + REPLACED))
    except OSError as error:
        return f"process {own.rank}: {error}"
    return ""


def _send(path: Path, source: int, rank: int, *, write: bool) -> str:
    """Copy a file of one process to others; returns why this process could not, or ''."""
    content: list[Any] = [None]
    failure = ""
    if rank == source:
        try:
            content = [path.read_bytes()]
        except OSError as error:
            failure = f"process {rank}: {error}"
    torch.distributed.broadcast_object_list(content, src=source)
    if not write or content[0] is None:
        return failure
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content[0], durable=True)
    except (OutputError, OSError) as error:
        failure = f"process {rank}: {error}"
    return failure
