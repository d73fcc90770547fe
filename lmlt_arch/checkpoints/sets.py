"""The files of a checkpoint to resume from, and whether they are as they were written.

Such a set is the training state `{iteration}.state`, the networks `net_*_{iteration}.pth`, and a file of each
process, `{iteration}.rank{rank}.pth`. `{iteration}.manifest.json` beside the state, written after all of
them, lists their sizes and digests. A set without one, by BasicSR itself or older than two others, is judged
by the checksums within its files and by what they hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmlt_arch.checkpoints.read import CheckpointError, read_file
from lmlt_arch.files import output_error, write_atomic

STATE_KEYS = ("epoch", "iter", "optimizers", "schedulers")
"""What BasicSR keeps in a training state."""

_BLOCK = 1 << 20
# Faults that a message names; a run may have hundreds of checkpoints.
_NAMED = 3

Listed = dict[str, dict[str, Any]]


def rank_file(folder: Path, iteration: int, rank: int) -> Path:
    """Where the state of a rank lies, beside BasicSR's `{iteration}.state`."""
    return folder / f"{iteration}.rank{rank}.pth"


def manifest_file(folder: Path, iteration: int) -> Path:
    """Where the manifest of a set lies, beside BasicSR's `{iteration}.state`."""
    return folder / f"{iteration}.manifest.json"


def write_manifest(folder: Path, iteration: int, files: Iterable[Path]) -> None:
    """List the files of a set as they now lie on the disk.

    Args:
        folder: of the training state.
        iteration: of the set.
        files: all of the set that this process can see.

    Raises:
        OutputError: the manifest could not be written, or a file not be read.
    """
    path = manifest_file(folder, iteration)
    try:
        listed = {file.name: {"size": file.stat().st_size, "sha256": digest_of(file)} for file in files}
    except OSError as error:
        raise output_error(path, error) from error
    content = {"iteration": iteration, "files": listed}
    write_atomic(path, json.dumps(content, indent=1).encode(), durable=True)


def resumed_networks(opt: Mapping[str, Any]) -> tuple[str, ...]:
    """The networks that BasicSR takes from the checkpoint it goes on from, such as `net_g`."""
    path = opt.get("path")
    ignored = path.get("ignore_resume_networks") if isinstance(path, Mapping) else None
    if not isinstance(ignored, str | list | tuple):
        ignored = ()
    return tuple(
        f"net_{key.removeprefix('network_')}"
        for key in opt
        if isinstance(key, str) and key.startswith("network_") and key not in ignored
    )


@dataclass(frozen=True)
class Checkpoints:
    """The sets of a run.

    Attributes:
        states: the folder of the training states, manifests and files of ranks.
        models: the folder of the networks.
        networks: those that training takes from a set, such as `net_g`.
        rank: the process that is to go on: files of other ranks are theirs to judge. None: all of them.
        run: whose sets count; if it has none, or for '', all of them. A folder may also hold sets of other
            runs: of one that went back to an older set, or of another training on that machine.
        began: the last iteration of the sets of other runs from which the run went on, which count as well.
    """

    states: Path
    models: Path
    networks: tuple[str, ...] = ("net_g",)
    rank: int | None = None
    run: str = ""
    began: int = -1

    @classmethod
    def of(cls, opt: Mapping[str, Any], run: str = "", began: int = -1) -> Checkpoints:
        """Those of the run that BasicSR parsed these options for."""
        path = opt["path"]
        states, models = Path(path["training_states"]), Path(path["models"])
        return cls(states, models, resumed_networks(opt), opt.get("rank", 0), run, began)

    def problem(self, state: Path) -> str:
        """What is wrong with the set of a training state; empty if it is whole.

        Args:
            state: `{iteration}.state`; under another name it has no manifest.
        """
        try:
            self._check(state)
        except (CheckpointError, OSError) as error:
            return str(error)
        return ""

    def refusal(self, state: Path) -> str:
        """Why training cannot go on from a state, and what to do; empty if it can."""
        wrong = self.problem(state)
        if not wrong:
            return ""
        older = self.older_whole(state)
        fix = (
            f"resume from {older}, which is whole, or put back the file as it was"
            if older is not None
            else "put back the file as it was, as no older checkpoint beside it is whole"
        )
        return f"the checkpoint of {state} is not whole: {wrong}. Fix: {fix}"

    def older_whole(self, state: Path) -> Path | None:
        """The state of the newest complete checkpoint before that of a state, if there is one."""
        return self.newest_whole(below=int(state.stem))[0] if state.stem.isdigit() else None

    def newest_whole(self, below: int | None = None) -> tuple[Path | None, list[str]]:
        """The state of the newest complete checkpoint, if any, and what is wrong with those after it.

        Args:
            below: sets of this iteration and later ones are left out.
        """
        faults: list[str] = []
        for iteration in sorted(self.iterations(), reverse=True):
            if below is None or iteration < below:
                state = self.states / f"{iteration}.state"
                wrong = self.problem(state)
                if not wrong:
                    return state, faults
                faults.append(wrong)
        return None, faults

    def iterations(self) -> set[int]:
        """Those of the sets that count."""
        return counted([self.iterations_by_run()], self)

    def iterations_by_run(self) -> dict[str, set[int]]:
        """Those of all sets, by the runs that wrote them; of one that cannot be read, as if by `run`."""
        found: dict[str, set[int]] = {}
        for path in self.states.glob("*.state"):
            if path.stem.isdigit():
                run = run_of(path) if self.run else ""
                found.setdefault(self.run if run is None else run, set()).add(int(path.stem))
        return found

    def to_resume(self) -> tuple[Path | None, str]:
        """The state of the newest whole set; of several processes, see `agreed_set`.

        Returns:
            The state, None if there is no set at all, and what was wrong with newer ones, if anything.

        Raises:
            CheckpointError: there are sets, and none is whole.
        """
        state, faults = self.newest_whole()
        if state is None and faults:
            raise CheckpointError(none_is_whole(self.states, faults))
        if state is not None:
            faults += newer_of_others([self.iterations_by_run()], self, int(state.stem))
        return state, in_short(faults)

    def common_files(self, state: Path) -> list[Path]:
        """The files of a set that all processes read: its state and its networks, all of them whole.

        Raises:
            CheckpointError: one is not what was written.
            OSError: one cannot be read.
        """
        listed = _listed(state)
        content = _verified(state, listed)
        if not is_training_state(content):
            raise CheckpointError(f"{state}: is no training state")
        iteration = content["iter"]
        if state.stem.isdigit() and int(state.stem) != iteration:
            raise CheckpointError(f"{state}: is the training state of iteration {iteration}")
        files = [state]
        for name in self.networks:
            path = self.models / f"{name}_{iteration}.pth"
            # An option file may describe a network that its model does not have.
            if name == "net_g" or path.name in (listed or ()) or any(self.models.glob(f"{name}_[0-9]*.pth")):
                _verified(path, listed)
                files.append(path)
        return files

    def check_ranks(self, folder: Path, iteration: int) -> None:
        """Check the files of ranks that must be whole; without one, training goes on inexactly and says so.

        Raises:
            CheckpointError: one is not what was written, or is missing although it is listed.
            OSError: one cannot be read.
        """
        listed = _listed(folder / f"{iteration}.state")
        for path in self._of_ranks(folder, iteration, listed):
            # That of a rank on another machine is listed nowhere.
            _verified(path, listed if path.name in (listed or ()) else None)

    def _check(self, state: Path) -> None:
        self.common_files(state)
        # Under another name a state has no manifest, and its files of ranks are named by its iteration.
        iteration = int(state.stem) if state.stem.isdigit() else read_file(state, mapped=True)["iter"]
        self.check_ranks(state.parent, iteration)

    def _of_ranks(self, folder: Path, iteration: int, listed: Listed | None) -> Iterator[Path]:
        if self.rank is None:
            start = f"{iteration}.rank"
            names = {path.name for path in folder.glob(f"{start}*.pth")}
            names |= {name for name in listed or () if name.startswith(start)}
            yield from (folder / name for name in sorted(names))
            return
        path = rank_file(folder, iteration, self.rank)
        if path.name in (listed or ()) or path.exists():
            yield path


def counted(found: list[dict[str, set[int]]], sets: Checkpoints) -> set[int]:
    """The iterations of the sets on several disks that count."""
    everything = {each for disk in found for iterations in disk.values() for each in iterations}
    own = {each for disk in found for each in disk.get(sets.run, ())}
    return own | {each for each in everything if each <= sets.began} or everything


def newer_of_others(found: list[dict[str, set[int]]], sets: Checkpoints, iteration: int) -> list[str]:
    """What to say of sets that do not count and are newer than the one that is taken."""
    others = {each for disk in found for other in disk if other != sets.run for each in disk[other]}
    newer = {each for each in others if each > max(iteration, sets.began)}
    if not newer or not any(sets.run in disk for disk in found):
        return []
    return [f"{', '.join(map(str, sorted(newer)[-_NAMED:]))} are of another run of this name"]


def run_of(state: Path) -> str | None:
    """The run that wrote a training state; '' if it does not say, None if it cannot be read."""
    try:
        # Without its checksums, for which all of it would be read: a run may have hundreds.
        content = torch.load(state, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever a damaged file makes of PyTorch's reader
        return None
    ours = content.get("plugin") if isinstance(content, Mapping) else None
    return str(ours.get("run") or "") if isinstance(ours, Mapping) else ""


def in_short(faults: list[str]) -> str:
    """The first of several faults, and how many more there are."""
    text = "; ".join(faults[:_NAMED])
    return f"{text}; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else text


def none_is_whole(states: Path, faults: list[str]) -> str:
    """What to say, and to do, where every set of a folder has a fault."""
    return (
        f"no checkpoint in {states} is whole: {in_short(faults)}. Fix: put back the files as they were, or "
        "move the folder of the run away to start over"
    )


def is_training_state(content: object) -> bool:
    """Whether this is what BasicSR keeps in a `.state`."""
    return (
        isinstance(content, Mapping)
        and all(key in content for key in STATE_KEYS)
        and isinstance(content["iter"], int)
    )


def _listed(state: Path) -> Listed | None:
    """What the manifest of a set lists; None if it has none."""
    if not state.stem.isdigit():
        return None
    path = manifest_file(state.parent, int(state.stem))
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        good = content["iteration"] == int(state.stem) and all(
            isinstance(entry["size"], int) and isinstance(entry["sha256"], str)
            for entry in content["files"].values()
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        good = False
    if not good:
        raise CheckpointError(f"{path}: damaged; without it, the set is judged by its other files")
    listed: Listed = content["files"]
    return listed


def _verified(path: Path, listed: Listed | None) -> Any:
    """What a file of a set holds, if it is what was written.

    Raises:
        CheckpointError: it is not.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    if listed is not None:
        entry = listed.get(path.name)
        if entry is None:
            raise CheckpointError(f"{path} is not listed in the manifest of its checkpoint")
        size = path.stat().st_size
        if size != entry["size"]:
            raise CheckpointError(f"{path}: damaged: {size} bytes, of {entry['size']} that were written")
        if digest_of(path) != entry["sha256"]:
            raise CheckpointError(f"{path}: damaged: not the bytes that were written")
    return read_file(path, mapped=True)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
