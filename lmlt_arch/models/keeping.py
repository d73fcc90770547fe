"""Which files of a run are kept: the newest sets to resume from, and the networks of the best validation."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from basicsr.utils import get_root_logger

from lmlt_arch.checkpoints.read import CheckpointError, read_file
from lmlt_arch.checkpoints.sets import manifest_file

BEST = "best"
"""The entry of a file of networks that says of which validation they are. Text: mappings are weights."""

_DROPPED = ".dropped"
# What no file system minds in the name of a file.
_SAFE = re.compile(r"[^\w.+ -]")


@dataclass(frozen=True)
class OldSets:
    """The sets of a run that newer ones replace.

    A deletion may be interrupted at any point. The manifest goes first: without it, a set is whole as long as
    its files are. Then the state is renamed to `{iteration}.dropped`: without a state there is no set, and
    nothing else of it is missed. That name goes last, so that the next deletion finds what this one left.

    Attributes:
        states: the folder of the training states, manifests and files of ranks.
        models: the folder of the networks.
        labels: what the names of the networks begin with, such as `net_g`.
        spared: iterations of which nothing is deleted.
    """

    states: Path
    models: Path
    labels: tuple[str, ...]
    spared: Collection[int] = ()

    def drop(self, newest: int, keep: int) -> None:
        """Delete all sets but the newest ones; what cannot be deleted is named in the log.

        Args:
            newest: the iteration of a set that is wholly written. Later ones, of a run that went on from an
                older set, are neither counted nor deleted.
            keep: how many stay, that one included.
        """
        found = sorted(iteration for iteration in self._numbered(".state") if iteration <= newest)
        begun = [iteration for iteration in self._numbered(_DROPPED) if iteration not in self.spared]
        old = [iteration for iteration in found[:-keep] if iteration not in self.spared]
        if not begun and not old:
            return
        # After a power cut, the newest set must not be gone together with the older ones.
        for folder in (self.models, self.states):
            _sync(folder)
        logger, dropped = get_root_logger(), list[str]()
        for iteration in sorted({*begun, *old}):
            try:
                self._drop(iteration, whole=iteration in old)
                dropped.append(str(iteration))
            except OSError as error:
                logger.warning(f"Checkpoint {iteration} was not deleted: {error}.")
        if dropped:
            logger.info(f"Deleted old checkpoints: {', '.join(dropped)} (keep_checkpoints: {keep}).")

    def _drop(self, iteration: int, *, whole: bool) -> None:
        state = self.states / f"{iteration}.state"
        mark = self.states / f"{iteration}{_DROPPED}"
        if whole:
            manifest_file(self.states, iteration).unlink(missing_ok=True)
            state.replace(mark)
        if not state.exists():  # else written again since a deletion was interrupted
            for label in self.labels:
                (self.models / f"{label}_{iteration}.pth").unlink(missing_ok=True)
            for path in self.states.glob(f"{iteration}.rank*.pth"):
                if re.fullmatch(r"\d+\.rank\d+\.pth", path.name):
                    path.unlink(missing_ok=True)
        mark.unlink(missing_ok=True)

    def _numbered(self, suffix: str) -> Iterator[int]:
        """The iterations in the names of files."""
        for path in self.states.glob(f"*{suffix}"):
            if re.fullmatch(r"0|[1-9][0-9]*", path.stem):
                yield int(path.stem)


@dataclass(frozen=True)
class Best:
    """The validation to which the networks of a file belong.

    Attributes:
        dataset: its name.
        metric: its name among `val: metrics`.
        better: `higher` or `lower`.
        value: of the metric, the mean of the dataset.
        iteration: of the networks.
    """

    dataset: str
    metric: str
    better: str
    value: float
    iteration: int

    def beats(self, other: Best | None) -> bool:
        """Whether its networks are to replace the other's; those of another measure are always replaced."""
        mine, others = (
            (each.dataset, each.metric, each.better) if each is not None else None for each in (self, other)
        )
        if other is None or mine != others:
            return True
        return self.value < other.value if self.better == "lower" else self.value > other.value

    def entry(self) -> str:
        """What `read_best` reads."""
        return json.dumps(asdict(self))


def best_file(models: Path, dataset: str) -> Path:
    """Where the networks of a dataset's best validation lie.

    Args:
        models: the folder of the networks.
        dataset: the name; characters that a file system may refuse are replaced, and a checksum follows.
    """
    safe = _SAFE.sub("_", dataset)
    if safe != dataset:
        safe += f"_{hashlib.sha256(dataset.encode()).hexdigest()[:8]}"
    return models / f"net_g_best_{safe}.pth"


def read_best(path: Path) -> Best | None:
    """Which validation the networks of a file belong to; None if there is none to say so."""
    if not path.is_file():
        return None
    try:
        content = read_file(path, mapped=True)
        entry = content.get(BEST) if isinstance(content, Mapping) else None
        return Best(**json.loads(entry)) if isinstance(entry, str) else None
    except (CheckpointError, OSError, TypeError, ValueError) as error:
        get_root_logger().warning(f"{path} is replaced by the next validation's networks: {error}.")
        return None


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
