"""Writing a checkpoint as a set of whole files, and reading what a process kept for itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from basicsr.utils import get_root_logger
from torch import nn

from lmlt_arch.checkpoints.load import read_file
from lmlt_arch.checkpoints.sets import in_short, manifest_file, rank_file, resumed_networks, write_manifest
from lmlt_arch.files import OutputError, make_folder
from lmlt_arch.group import failures_of_all, from_first, gathered, is_first_here
from lmlt_arch.models.agreement import in_ranges
from lmlt_arch.models.keeping import BEST, Best, OldSets, best_file, read_best
from lmlt_arch.models.training_state import RankState, drop_old_rank_files, save_whole

# The entries of a schedule's state that are no settings.
_PROGRESS = ("base_lrs", "last_epoch", "_step_count", "_last_lr")


class Saved(Protocol):
    """The methods of a model that write or return parts of a checkpoint."""

    def save_networks(self, current_iter: int) -> None:
        """Write every network."""

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write what all processes have in common."""

    def rank_state(self) -> RankState:
        """What this process holds for itself."""


class CheckpointFiles:
    """The files of a run's checkpoints, each written whole or not at all.

    Args:
        opt: BasicSR's options: `dist`, `rank`, `world_size`, `path` and `logger`.

    Attributes:
        newest: the iteration of the last set that was written, by all processes.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self._opt = opt
        self._logger: Mapping[str, Any] = opt.get("logger") or {}
        self._networks: list[Path] = []
        self._spared: set[int] = set()
        self._best: dict[str, list[Best]] = {}
        self.newest: int | None = None

    def save(self, model: Saved, epoch: int, current_iter: int) -> None:
        """Write a set to resume from; one that cannot be written is reported in the log, and is removed.

        `{current_iter}.state` is written after the files that belong to it, and the manifest after all of
        them; see `lmlt_arch.checkpoints.sets`. Then sets are deleted that `keep_checkpoints` does not keep.

        Args:
            model: its methods write the files.
            epoch: the current one.
            current_iter: the current iteration.
        """
        folder, rank = self._states(), self._opt["rank"]
        own = rank_file(folder, current_iter, rank)
        self._networks, failure = [], ""
        try:
            model.save_networks(current_iter)
            make_folder(folder)  # BasicSR makes it on the first node only
            save_whole(model.rank_state(), own)
        except OutputError as error:
            failure = str(error)
        failures = failures_of_all(failure)
        if not failures:
            try:
                model.save_training_state(epoch, current_iter)
                self._write_manifest(current_iter)
            except OutputError as error:
                failure = str(error)
            # Before the set is whole, no process may leave, or delete what an earlier one needs.
            failures = failures_of_all(failure)
        if not failures:
            self.newest = current_iter
            drop_old_rank_files(folder, rank, current_iter)
            self._drop_old_sets(current_iter)
            return
        if not (folder / f"{current_iter}.state").exists():
            for path in (*self._networks, own):
                with suppress(OSError):
                    path.unlink()  # the next one may need the room
        if rank == 0:
            get_root_logger().error(
                f"Checkpoint {current_iter} was not saved: {in_short(failures)}. Going on."
            )

    def save_last(self, model: Saved) -> None:
        """Write the networks of the end; no process goes on before, as torchrun may end the others with it.

        Args:
            model: its method writes the files.

        Raises:
            OutputError: one could not be written; on all processes.
        """
        refusal = ""
        try:
            model.save_networks(-1)
        except OutputError as error:
            refusal = str(error)
        if refusal := from_first(refusal):
            raise OutputError(refusal)

    def write_networks(self, networks: Mapping[str, nn.Module], label: str, current_iter: int) -> None:
        """Write `{label}_{current_iter}.pth` in BasicSR's format.

        Args:
            networks: bare networks by the keys of their state dicts in the file.
            label: such as `net_g`.
            current_iter: the iteration; -1 for the final network, `{label}_latest.pth`.

        Raises:
            OutputError: the file could not be written.
        """
        number = "latest" if current_iter == -1 else current_iter
        path = Path(self._opt["path"]["models"]) / f"{label}_{number}.pth"
        save_whole(_weights(networks), path)
        self._networks.append(path)

    @property
    def keeps_best(self) -> str | None:
        """The metric by which the networks of the best validation are kept."""
        return self._logger.get("keep_best")

    def find_best(self, dataset: str) -> None:
        """Look once for a dataset's networks of earlier validations, on all disks, from all processes."""
        if dataset not in self._best:
            found = gathered(read_best(best_file(Path(self._opt["path"]["models"]), dataset)))
            self._best[dataset] = [best for best in found if best is not None]

    def keep_best(self, networks: Mapping[str, nn.Module], validated: Best) -> None:
        """Write `net_g_best_{dataset}.pth` unless `find_best` found a better one; the log says so.

        The file says itself of which validation it is: a run that was killed after the validation goes on
        from a training state that is older.

        Args:
            networks: bare networks by the keys of their state dicts in the file.
            validated: their validation.
        """
        path = best_file(Path(self._opt["path"]["models"]), validated.dataset)
        if not all(map(validated.beats, self._best[validated.dataset])):
            return
        said = f"{validated.metric} {validated.value:.4f} of iteration {validated.iteration}"
        try:
            save_whole({**_weights(networks), BEST: validated.entry()}, path)
        except OutputError as error:
            get_root_logger().error(f"The best networks, {said}, were not saved: {error}. Going on.")
        else:
            self._best[validated.dataset] = [validated]
            get_root_logger().info(f"Saved the best networks, {said}, as {path.name}.")

    def write_state(
        self,
        epoch: int,
        current_iter: int,
        optimizers: Iterable[torch.optim.Optimizer],
        schedulers: Iterable[torch.optim.lr_scheduler.LRScheduler],
        ours: Mapping[str, Any],
    ) -> None:
        """Write `{current_iter}.state` in BasicSR's format.

        Args:
            epoch: the current one.
            current_iter: the current iteration.
            optimizers: of all networks.
            schedulers: of all optimizers.
            ours: the further entry `plugin`.

        Raises:
            OutputError: the file could not be written.
        """
        content = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in schedulers],
            "plugin": ours,
        }
        save_whole(content, self._states() / f"{current_iter}.state")

    def spare(self, current_iter: int) -> None:
        """Delete nothing of an iteration: what the options name must stay."""
        self._spared.add(current_iter)

    def read_rank_state(self, current_iter: int) -> RankState | None:
        """What this process kept for itself beside the state to resume from; None if that is missing.

        Raises:
            CheckpointError: the file is damaged.
        """
        folder = Path(self._opt["path"]["resume_state"]).parent
        path = rank_file(folder, current_iter, self._opt["rank"])
        missing = [rank for rank, has in enumerate(gathered(path.is_file())) if not has]
        if missing:
            get_root_logger().warning(
                f"Checkpoint {current_iter} has no random numbers of process {in_ranges(missing)}, which "
                "begins new ones: where training uses them, it goes on inexactly."
            )
        return read_file(path) if path.is_file() else None

    def _states(self) -> Path:
        return Path(self._opt["path"]["training_states"])

    def _write_manifest(self, current_iter: int) -> None:
        """List the set that was saved; the file of a rank on another machine's disk is not seen here."""
        folder = self._states()
        state = folder / f"{current_iter}.state"
        if self._opt["rank"] != 0 or not state.is_file():
            return
        ranks = (rank_file(folder, current_iter, rank) for rank in range(self._opt.get("world_size", 1)))
        files = [state, *self._networks, *(path for path in ranks if path.is_file())]
        write_manifest(folder, current_iter, files)

    def _drop_old_sets(self, current_iter: int) -> None:
        """Delete what `keep_checkpoints` does not keep, after a set that is wholly written."""
        keep, states = self._logger.get("keep_checkpoints"), self._states()
        if keep is None:
            return
        if self._opt["rank"] == 0:
            labels = tuple(path.name.removesuffix(f"_{current_iter}.pth") for path in self._networks)
            drops = manifest_file(states, current_iter).is_file()
        else:  # a disk that the first process does not write to has the sets that it received
            labels = resumed_networks(self._opt)
            drops = is_first_here() and not (states / f"{current_iter}.state").exists()
        if drops:
            sets = OldSets(states, Path(self._opt["path"]["models"]), labels, self._spared)
            sets.drop(current_iter, int(keep))


def _weights(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The state dicts of networks as BasicSR writes them."""
    content = {}
    for key, network in networks.items():
        state = network.state_dict()
        for name, tensor in state.items():
            state[name] = tensor.cpu().contiguous()
        content[key] = state
    return content


def progress_of(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """The progress in the state dict of a schedule, without its settings."""
    return {key: value for key, value in scheduler.items() if key in _PROGRESS}
