"""Training samples that depend on seed, epoch and place in the epoch alone: a resumed run repeats them.

A sampler gives each index a seed, from which `SeededDataset` samples the crop, flips and so on. The result
depends neither on the number of data workers nor on that of processes, and workers have no state to save.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import atexit
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
from lmlt_arch.group import accept_ending, ending_held_back

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
    """BasicSR's order of the training data, epoch after epoch, with seeds, and resumable at any place.

    All processes share one sequence of samples that never ends: in each epoch every sample once, in the order
    that BasicSR has on one process. A step takes the next `total_batch` of them, of which process `rank`
    takes each `num_replicas`-th. So neither the steps nor the place depend on the number of processes, and
    no sample is left over at the end of an epoch.

    Args:
        dataset: the training data.
        num_replicas: number of processes that share a step.
        rank: number of this process.
        ratio: how often an epoch goes through the data.
        seed: of everything sampled for the data.
        total_batch: samples of a step over all processes; by default one for each.

    Attributes:
        epoch: the current one, None before the first.
        place: samples, over all processes and epochs, that the model was trained on; counted by the model,
            since loaders read ahead.
        total_size: samples of an epoch.

    Raises:
        ValueError: there are no training images, or fewer samples in a step than processes.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int,
        rank: int,
        ratio: float = 1,
        *,
        seed: int = 0,
        total_batch: int | None = None,
    ) -> None:
        super().__init__(dataset, 1, 0, ratio)
        # Of less than all images, BasicSR takes the same ones in each epoch.
        self._stock = EnlargedSampler(dataset, 1, 0, max(1, ratio))
        self._processes, self._process = num_replicas, rank
        self.total_batch = num_replicas if total_batch is None else total_batch
        if not self.total_size:
            raise ValueError("there are no training images")
        if self.total_batch < num_replicas:
            raise ValueError(f"{self.total_batch} samples of a step are too few for {num_replicas} processes")
        self.seed = seed
        self.epoch: int | None = None
        self.place = 0
        self._end: int | None = None

    def __iter__(self) -> Iterator[SeededIndex]:
        epoch, indices = -1, []
        step = self.place
        while self._end is None or step < self._end:
            seed_of_step = _mixed(self.seed, *divmod(step, self.total_size), _OF_STEPS)
            for place in range(step + self._process, step + self.total_batch, self._processes):
                within = place % self.total_size
                if place // self.total_size != epoch:
                    epoch = place // self.total_size
                    self._stock.set_epoch(epoch)
                    indices = [*self._stock][: self.total_size]
                yield SeededIndex.of(indices[within], _mixed(self.seed, epoch, within), seed_of_step)
            step += self.total_batch

    def advance(self) -> None:
        """Count a step that the model was trained on."""
        self.place += self.total_batch

    def end_after(self, steps: int) -> int:
        """End the sequence after so many further steps.

        Args:
            steps: of the optimizer; 0 or less: none.

        Returns:
            The epoch in which the last of them begins; the one before the current if there are none.
        """
        self._end = self.place + max(0, steps) * self.total_batch
        last = self._end - self.total_batch if steps > 0 else self.place - self.total_size
        return last // self.total_size

    def state(self) -> dict[str, int]:
        """The place, in samples of all processes together."""
        return {
            "epoch": self.place // self.total_size,
            "consumed": self.place % self.total_size,
            "total_size": self.total_size,
            "seed": self.seed,
        }

    def resume(self, state: Mapping[str, int]) -> bool:
        """Continue at the place and the seed of a state; without `manual_seed` each run has its own seed.

        Returns:
            False if the data have changed since, so that the place means nothing: then a new epoch begins.
        """
        self.seed = state["seed"]
        same = state["total_size"] == self.total_size
        epoch, consumed = (state["epoch"], state["consumed"]) if same else (state["epoch"] + 1, 0)
        self.place = epoch * self.total_size + consumed
        return same


class EpochLoader:
    """A loader of one long sequence, in epochs: between two of them, nothing is started again.

    BasicSR's loop begins each epoch with `set_epoch` of the order and a new iterator of the loader. Data
    workers that start in every epoch, each of which imports PyTorch, would cost more than a short epoch.
    A step belongs to the epoch in which it begins.

    Args:
        loader: PyTorch's, of an order that nothing else iterates.
        order: the order.
    """

    def __init__(self, loader: Any, order: TrainingOrder) -> None:
        self._loader, self._order = loader, order
        self._batches: Iterator[Any] | None = None
        self._place = 0
        self._taken_early: list[tuple[int, Any]] = []

    def __getattr__(self, name: str) -> Any:
        # Of an object that is being copied or unpickled, nothing is there yet.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __len__(self) -> int:
        """The fewest steps of an epoch; a step belongs to the epoch in which it begins."""
        return self._order.total_size // self._order.total_batch

    def __iter__(self) -> Iterator[Any]:
        """The rest of the current epoch; of all epochs for a loop that does not call `set_epoch`."""
        epoch = self._order.epoch
        # Before the first epoch, a prefetcher takes a batch that it then forgets.
        yield from (batch for place, batch in self._taken_early if place >= self._order.place)
        self._taken_early = []
        if self._batches is None:
            with ending_held_back():  # until PrepareWorker
                self._place, self._batches = self._order.place, iter(self._loader)
        while epoch is None or self._place // self._order.total_size <= epoch:
            batch = next(self._batches, None)
            if batch is None:
                return
            if epoch is None:
                self._taken_early = [(self._place, batch)]
            self._place += self._order.total_batch
            yield batch


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
        accept_ending()

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
