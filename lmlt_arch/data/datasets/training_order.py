"""Training samples that depend on seed, epoch and place in the epoch alone: a resumed run repeats them.

A sampler gives each index a seed, from which `SeededDataset` samples the crop, flips and so on. The result
depends neither on the number of data workers nor on that of processes, and workers have no state to save.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import atexit
import math
import os
import random
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import Dataset, get_worker_info

from lmlt_arch.data.datasets.guarded_reading import GuardedReading

# BasicSR's `prefetch_mode: cpu` reads in threads, of which two may run at the beginning of an epoch.
_sampling = threading.Lock()
# Keeps the seeds of steps apart from those of samples.
_OF_STEPS = 1


class SeededIndex(int):
    """The index of a sample, with a seed of its own and one of its optimizer step."""

    seed: int
    batch_seed: int

    @classmethod
    def of(cls, index: int, seed: int, batch_seed: int = 0) -> SeededIndex:
        """An index with its seeds."""
        made = cls(index)
        made.seed, made.batch_seed = seed, batch_seed
        return made


class TrainingOrder(EnlargedSampler):
    """BasicSR's order of the training data, with seeds, and resumable at any place.

    Args:
        dataset: the training data.
        num_replicas: number of processes that share an epoch.
        rank: number of this process.
        ratio: how often an epoch goes through the data.
        seed: of everything sampled for the data.
        batch: samples of a step on this process.

    Attributes:
        epoch: the current one.
        consumed: samples of the epoch that this process was trained on; counted by the model, since loaders
            read ahead.
    """

    def __init__(
        self, dataset: Any, num_replicas: int, rank: int, ratio: float = 1, *, seed: int = 0, batch: int = 1
    ) -> None:
        super().__init__(dataset, num_replicas, rank, ratio)
        self.seed = seed
        self.batch = batch
        self.consumed = 0
        self._resumed: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; the resumed one begins where it was left."""
        super().set_epoch(epoch)
        self.consumed = self._start()

    def __iter__(self) -> Iterator[SeededIndex]:
        indices = [*super().__iter__()]
        start = self._start()
        for number in range(start, len(indices)):
            place = number * self.num_replicas + self.rank
            # Counted over all processes, which share a step.
            step = start // self.batch + (number - start) // self.batch
            yield SeededIndex.of(
                indices[number],
                _mixed(self.seed, self.epoch, place),
                _mixed(self.seed, self.epoch, step, _OF_STEPS),
            )

    def last_epoch(self, epoch: int, steps: int) -> int:
        """The epoch of the last of `steps` steps; `epoch - 1` if there are none.

        Args:
            epoch: the first one; the resumed one begins at the place of `resume`.
            steps: optimizer steps. An epoch has whole batches only: the loader drops the rest.

        Raises:
            ValueError: an epoch has fewer samples than a batch.
        """
        self.epoch = epoch
        first, each = (self.num_samples - self._start()) // self.batch, self.num_samples // self.batch
        if each == 0:
            raise ValueError(
                f"the {len(self.dataset)} training images make {self.num_samples} samples per epoch for each "
                f"of {self.num_replicas} processes, too few for a batch of {self.batch}"
            )
        if steps <= first:
            return epoch if steps > 0 else epoch - 1
        return epoch + math.ceil((steps - first) / each)

    def state(self) -> dict[str, int]:
        """The place in the epoch, in samples of all processes together."""
        return {
            "epoch": self.epoch,
            "consumed": self.consumed * self.num_replicas,
            "total_size": self.total_size,
            "seed": self.seed,
        }

    def resume(self, state: Mapping[str, int]) -> bool:
        """Continue at the epoch, place and seed of a state; without `manual_seed` each run has its own seed.

        Returns:
            False, changing nothing, if the place is not valid any more: the data have changed, or so has the
            number of processes, and with it the order of the epoch.
        """
        if state.get("total_size") != self.total_size:
            return False
        self.seed = state["seed"]
        self._resumed = state["epoch"], state["consumed"] // self.num_replicas
        return True

    def _start(self) -> int:
        if self._resumed is None or self.epoch != self._resumed[0]:
            return 0
        return self._resumed[1]


class SeededDataset(Dataset[Any]):
    """Training data, each sample by the seed of its index; damaged images are named or skipped.

    Args:
        dataset: of BasicSR, or with the same interface.
        skip_damaged: skip damaged images; otherwise they are errors.
    """

    def __init__(self, dataset: Any, *, skip_damaged: bool = False) -> None:
        self.dataset = dataset
        _drop_blank_lines(dataset)
        self._reading = GuardedReading(dataset, skip_damaged=skip_damaged)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, SeededIndex):
            return self._reading.get(index)
        with _seeded(index.seed):
            if hasattr(self.dataset, "batch_seed"):
                self.dataset.batch_seed = index.batch_seed
            return self._reading.get(int(index))


class PrepareWorker:
    """A `worker_init_fn` of loaders: one thread in each worker, and no signals until the main process exits.

    PyTorch limits its own threads in workers; OpenCV would start one for each core in every worker.

    A SIGTERM or SIGUSR1 to the whole process group leaves the data workers alive: the main process has to
    save, and may need them for its current iteration. Once it exits, SIGTERM ends them again: Python ends
    daemon processes by it, and waits for them without limit.
    """

    def __init__(self) -> None:
        self._exiting = torch.zeros(1, dtype=torch.bool).share_memory_()
        # Callbacks run in reverse order: this one before that of multiprocessing, which importing torch made.
        atexit.register(self._exiting.fill_, True)

    def __call__(self, worker_id: int) -> None:
        """Prepare a worker; runs in it."""
        cv2.setNumThreads(0)
        signal.signal(signal.SIGTERM, self._end_if_exiting)
        if hasattr(signal, "SIGUSR1"):  # not on Windows
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _end_if_exiting(self, signum: int, frame: FrameType | None) -> None:
        if self._exiting:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)


def _drop_blank_lines(dataset: Any) -> None:
    """Correct the list of RealESRGANDataset, which keeps blank lines and a byte order mark."""
    paths = getattr(dataset, "paths", None)
    is_stock = type(dataset).__module__ == "basicsr.data.realesrgan_dataset"
    if is_stock and isinstance(paths, list):
        paths[:] = [path.replace("\ufeff", "") for path in paths if not path.endswith(os.sep)]


def _mixed(*numbers: int) -> int:
    """A number of 32 bits that depends on all of `numbers`."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, from which datasets sample."""
    with _sampling, nullcontext() if get_worker_info() else _generators_kept():
        random.seed(seed)
        np.random.seed(seed)
        # Not `torch.manual_seed`, which would seed the GPUs too.
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Restore the global generators; not needed in data workers, which only make samples."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
