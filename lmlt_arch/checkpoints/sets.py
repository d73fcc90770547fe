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

_NONE = -1
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
        listed = {file.name: {"size": file.stat().st_size, "sha256": _digest(file)} for file in files}
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
    """

    states: Path
    models: Path
    networks: tuple[str, ...] = ("net_g",)
    rank: int | None = None

    @classmethod
    def of(cls, opt: Mapping[str, Any]) -> Checkpoints:
        """Those of the run that BasicSR parsed these options for."""
        path = opt["path"]
        return cls(
            Path(path["training_states"]), Path(path["models"]), resumed_networks(opt), opt.get("rank", 0)
        )

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
        iterations = {int(path.stem): path for path in self.states.glob("*.state") if path.stem.isdigit()}
        faults: list[str] = []
        for iteration in sorted(iterations, reverse=True):
            if below is None or iteration < below:
                wrong = self.problem(iterations[iteration])
                if not wrong:
                    return iterations[iteration], faults
                faults.append(wrong)
        return None, faults

    def to_resume(self, *, distributed: bool = False) -> tuple[Path | None, str]:
        """The state of the newest set that is whole for every process.

        Args:
            distributed: several processes call this, and agree on one.

        Returns:
            The state, None if there is no set at all, and what was wrong with newer ones, if anything.

        Raises:
            CheckpointError: there are sets, and none is whole.
        """
        faults: list[str] = []
        below: int | None = None
        while True:
            state, wrong = self.newest_whole(below)
            own = (_NONE if state is None else int(state.stem), wrong)
            found = _gathered(own) if distributed else [own]
            for rank, (iteration, reported) in enumerate(found):
                faults += [fault for fault in reported if fault not in faults]
                if iteration == _NONE and not reported and any(other != _NONE for other, _ in found):
                    faults.append(f"process {rank} finds no checkpoint in {self.states}")
            oldest = min(iteration for iteration, _ in found)
            if all(iteration == oldest for iteration, _ in found):
                break
            below = oldest + 1
        text = "; ".join(faults[:_NAMED])
        text += f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        if state is None and faults:
            raise CheckpointError(
                f"no checkpoint in {self.states} is whole: {text}. Fix: put back the files as they were, or "
                "move the folder of the run away to start over"
            )
        return state, text

    def _check(self, state: Path) -> None:
        listed = _listed(state)
        content = _verified(state, listed)
        if not is_training_state(content):
            raise CheckpointError(f"{state}: is no training state")
        iteration = content["iter"]
        if state.stem.isdigit() and int(state.stem) != iteration:
            raise CheckpointError(f"{state}: is the training state of iteration {iteration}")
        for name in self.networks:
            path = self.models / f"{name}_{iteration}.pth"
            # An option file may describe a network that its model does not have.
            if name == "net_g" or path.name in (listed or ()) or any(self.models.glob(f"{name}_[0-9]*.pth")):
                _verified(path, listed)
        for path in self._of_ranks(state.parent, iteration, listed):
            # That of a rank on another machine is listed nowhere.
            _verified(path, listed if path.name in (listed or ()) else None)

    def _of_ranks(self, folder: Path, iteration: int, listed: Listed | None) -> Iterator[Path]:
        """The files of ranks that must be whole; without one, training goes on inexactly and says so."""
        if self.rank is None:
            start = f"{iteration}.rank"
            names = {path.name for path in folder.glob(f"{start}*.pth")}
            names |= {name for name in listed or () if name.startswith(start)}
            yield from (folder / name for name in sorted(names))
            return
        path = rank_file(folder, iteration, self.rank)
        if path.name in (listed or ()) or path.exists():
            yield path


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
        if _digest(path) != entry["sha256"]:
            raise CheckpointError(f"{path}: damaged: not the bytes that were written")
    return read_file(path, mapped=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _gathered(own: tuple[int, list[str]]) -> list[tuple[int, list[str]]]:
    """The values of all processes."""
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return found
