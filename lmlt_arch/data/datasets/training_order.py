"""Training samples that depend on seed, epoch and place in the epoch alone: a resumed run repeats them.

A sampler gives each index a seed; `SeededDataset` draws what a sample needs (crop, flips) from that seed.
Neither the number of data workers nor the number of processes matters, and there is no state of workers to
save.
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

# BasicSR's `prefetch_mode: cpu` reads in threads, of which two may live at the beginning of an epoch.
_drawing = threading.Lock()
# Keeps the seeds of steps apart from those of samples.
_OF_STEPS = 1


class SeededIndex(int):
    """The index of a sample, and the seeds of what is drawn for it and for the step that it is part of."""

    seed: int
    batch_seed: int

    @classmethod
    def of(cls, index: int, seed: int, batch_seed: int = 0) -> SeededIndex:
        """An index with its seeds."""
        made = cls(index)
        made.seed, made.batch_seed = seed, batch_seed
        return made


class TrainingOrder(EnlargedSampler):
    """BasicSR's order of the training data, with seeds, and with a place to go on from.

    Args:
        dataset: the training data.
        num_replicas: processes that share an epoch.
        rank: which of them this is.
        ratio: how often an epoch goes through the data.
        seed: of everything drawn for samples.
        batch: samples of a step on this process.

    Attributes:
        epoch: the present one.
        consumed: this process's samples of the epoch that were trained on; the model counts them, since
            loaders read ahead.
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
            # Counted over all processes: these have the samples of a step in common.
            step = start // self.batch + (number - start) // self.batch
            yield SeededIndex.of(
                indices[number],
                _mixed(self.seed, self.epoch, place),
                _mixed(self.seed, self.epoch, step, _OF_STEPS),
            )

    def last_epoch(self, epoch: int, steps: int) -> int:
        """The epoch in which the last of so many steps is made; `epoch - 1` if there is none to make.

        Args:
            epoch: the one to begin with, at the place of `resume` if it is the resumed one.
            steps: of the optimizer. An epoch has whole batches only: the loader drops what is left.

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
        """Begin that epoch at that place, with the seed of then: without `manual_seed` each start draws one.

        Returns:
            False, changing nothing, if the place has lost its meaning: there are other data, or the epoch is
            dealt to other processes so that its order is another.
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
    """Training data, each sample drawn from the seed that its index carries, damaged images dealt with.

    Args:
        dataset: of BasicSR, or like those.
        skip_damaged: go on without images that are damaged; otherwise they are errors.
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
    """For a loader's `worker_init_fn`: each worker keeps to one thread, and outlasts a SIGTERM to its group.

    PyTorch limits its own threads in workers; OpenCV would start one for each core in every worker.

    A SIGTERM to the whole process group leaves the data workers alive: the main process has to save, and may
    need them for the iteration it is in. Once it exits, SIGTERM ends them again: that is how Python gets rid
    of daemon processes, and it waits for them without limit.
    """

    def __init__(self) -> None:
        self._exiting = torch.zeros(1, dtype=torch.bool).share_memory_()
        # Callbacks run in reverse order: this one before that of multiprocessing, which importing torch made.
        atexit.register(self._exiting.fill_, True)

    def __call__(self, worker_id: int) -> None:
        """Prepare a worker; runs in it."""
        cv2.setNumThreads(0)
        signal.signal(signal.SIGTERM, self._end_if_exiting)

    def _end_if_exiting(self, signum: int, frame: FrameType | None) -> None:
        if self._exiting:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)


def _drop_blank_lines(dataset: Any) -> None:
    """RealESRGANDataset takes blank lines of its list for images, and a byte order mark for a name's part."""
    paths = getattr(dataset, "paths", None)
    is_stock = type(dataset).__module__ == "basicsr.data.realesrgan_dataset"
    if is_stock and isinstance(paths, list):
        paths[:] = [path.replace("\ufeff", "") for path in paths if not path.endswith(os.sep)]


def _mixed(*numbers: int) -> int:
    """One number of 32 bits that depends on all of several."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, which datasets draw from."""
    with _drawing, nullcontext() if get_worker_info() else _generators_kept():
        random.seed(seed)
        np.random.seed(seed)
        # Not `torch.manual_seed`, which would seed the GPUs too.
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Put the global generators back; not needed in data workers, which draw for samples alone."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
