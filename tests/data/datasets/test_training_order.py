"""The order of training samples and what is drawn for them: alike for any workers, ranks and resumes."""

from __future__ import annotations

import os
import pickle
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher, PrefetchDataLoader
from torch.utils.data import DataLoader, Dataset

from lmlt_arch.data.datasets.training_order import (
    EpochLoader,
    PrepareWorker,
    SeededDataset,
    SeededIndex,
    TrainingOrder,
)
from lmlt_arch.group import ENDING

IMAGES, BATCH, RATIO = 7, 2, 3


class RandomNumbers(Dataset[dict[str, Any]]):
    """Samples that say what was drawn for them by each of the three generators."""

    paths = tuple(f"{number}.png" for number in range(IMAGES))

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict[str, Any]:
        assert type(index) is int
        drawn = [random.random(), np.random.random(), torch.rand((), dtype=torch.float64).item()]
        return {"index": index, "drawn": torch.tensor(drawn, dtype=torch.float64)}


class WhichWorker(Dataset[int]):
    """Samples that say which process made them."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> int:
        return os.getpid()


Sample = tuple[float, ...]
Epochs = list[list[list[Sample]]]


def order(rank: int = 0, world: int = 1, seed: int = 5, batch: int = BATCH) -> TrainingOrder:
    return TrainingOrder(RandomNumbers(), world, rank, RATIO, seed=seed, total_batch=batch)


def samples(
    sampler: TrainingOrder,
    steps: int = 21,
    share: int = BATCH,
    workers: int = 0,
    loader_type: Any = DataLoader,
    **more: Any,
) -> Epochs:
    """Epochs of batches of samples, as BasicSR's loop gets them; by default two whole epochs."""
    last = sampler.end_after(steps)
    loader = loader_type(
        dataset=SeededDataset(RandomNumbers()),
        batch_size=share,
        sampler=sampler,
        num_workers=workers,
        drop_last=True,
        **more,
    )
    loader.generator = torch.Generator().manual_seed(0)
    prefetcher = CPUPrefetcher(EpochLoader(loader, sampler))
    found: Epochs = []
    for epoch in range(sampler.place // sampler.total_size, last + 1):
        sampler.set_epoch(epoch)
        prefetcher.reset()
        found.append([])
        while (batch := prefetcher.next()) is not None:
            rows = zip(batch["index"].tolist(), batch["drawn"].tolist(), strict=True)
            found[-1].append([(index, *drawn) for index, drawn in rows])
            sampler.advance()
    assert sum(map(len, found)) == steps
    return found


def flat(epochs: Epochs) -> list[Sample]:
    return [sample for epoch in epochs for batch in epoch for sample in batch]


def test_the_order_is_basicsrs_on_one_process() -> None:
    stock = EnlargedSampler(RandomNumbers(), 1, 0, RATIO)
    assert order().total_size == len(stock) == IMAGES * RATIO
    ours = [int(sample[0]) for sample in flat(samples(order(), steps=63, share=BATCH))]
    for epoch in range(6):
        stock.set_epoch(epoch)
        assert ours[epoch * len(stock) : (epoch + 1) * len(stock)] == list(stock)


def test_all_samples_differ_and_depend_on_the_seed() -> None:
    found = flat(samples(order()))
    assert len(found) == 2 * IMAGES * RATIO, "an epoch of odd length leaves nothing over"
    assert len({sample[1:] for sample in found}) == len(found)
    assert samples(order()) == samples(order())
    assert samples(order(seed=6)) != samples(order())


def test_a_step_belongs_to_the_epoch_in_which_it_begins() -> None:
    assert [len(epoch) for epoch in samples(order())] == [11, 10]
    # A batch of more images than an epoch has: epochs without a step of their own.
    assert [len(epoch) for epoch in samples(order(batch=50), steps=2, share=50)] == [1, 0, 1]


@pytest.mark.parametrize(
    "how",
    [
        {"workers": 1},
        {"workers": 2, "persistent_workers": True},
        {"loader_type": PrefetchDataLoader, "num_prefetch_queue": 3},
    ],
    ids=str,
)
def test_workers_and_prefetching_do_not_matter(how: dict[str, Any]) -> None:
    assert samples(order(), **how) == samples(order())


def test_workers_live_as_long_as_the_run() -> None:
    sampler = order()
    last = sampler.end_after(21)
    loader = EpochLoader(
        DataLoader(WhichWorker(), batch_size=BATCH, sampler=sampler, num_workers=1, drop_last=True), sampler
    )
    seen = []
    for epoch in range(last + 1):
        sampler.set_epoch(epoch)
        seen += [batch.tolist() for batch in loader]
    assert len(seen) == 21
    assert len({worker for batch in seen for worker in batch}) == 1


class SlowStart(Dataset[int]):
    """A dataset that a worker needs a while to receive; until then the worker is as Python starts it."""

    def __init__(self, said: Path) -> None:
        self.said = said

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> int:
        return int(index)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.said = state["said"]
        self.said.write_text(str(os.getpid()))
        time.sleep(1)


def test_a_signal_to_a_worker_that_starts_ends_nothing(tmp_path: Path) -> None:
    sampler = TrainingOrder(SlowStart(tmp_path / "worker"), 1, 0, total_batch=BATCH)
    sampler.end_after(3)
    loader = DataLoader(
        sampler.dataset,
        batch_size=BATCH,
        sampler=sampler,
        num_workers=1,
        multiprocessing_context="spawn",
        worker_init_fn=PrepareWorker(),
    )
    signals = []

    def send() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not signals:
            if (tmp_path / "worker").exists() and (worker := (tmp_path / "worker").read_text()):
                for each in ENDING:
                    os.kill(int(worker), each)
                    signals.append(each)
            time.sleep(0.05)

    sender = threading.Thread(target=send)
    sender.start()
    found = [batch.tolist() for batch in EpochLoader(loader, sampler)]
    sender.join()
    assert len(found) == 3
    assert signals == [*ENDING]


def test_a_prefetcher_may_take_a_batch_before_the_first_epoch() -> None:
    """BasicSR's CUDAPrefetcher does, and forgets it."""
    sampler = order()
    sampler.end_after(21)
    loader = EpochLoader(DataLoader(SeededDataset(RandomNumbers()), BATCH, sampler=sampler), sampler)
    early = next(iter(loader))
    sampler.set_epoch(0)
    assert torch.equal(next(iter(loader))["index"], early["index"])


def test_a_loop_without_epochs_gets_all() -> None:
    sampler = order()
    sampler.end_after(21)
    loader = EpochLoader(DataLoader(SeededDataset(RandomNumbers()), BATCH, sampler=sampler), sampler)
    assert len([*loader]) == 21


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("batch", [4, 7])
def test_processes_share_the_steps_of_one(world: int, batch: int) -> None:
    """Also in unequal shares: the steps are those of one process."""
    alone = [step for epoch in samples(order(batch=batch), 12, batch) for step in epoch]
    ranks = []
    for rank in range(world):
        share = len(range(rank, batch, world))
        found = samples(order(rank, world, batch=batch), 12, share)
        ranks.append([step for epoch in found for step in epoch])
    for number, step in enumerate(alone):
        for rank in range(world):
            assert ranks[rank][number] == step[rank::world]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("steps", [0, 3, 10, 11, 20, 21])
def test_a_resume_goes_on_at_the_place(steps: int, world: int, workers: int) -> None:
    """Whatever the number of processes was."""
    expected = flat(samples(order(), steps=31))
    left = order(0, 2)
    for _ in range(steps):
        left.advance()
    state = left.state()
    found = []
    for rank in range(world):
        resumed = order(rank, world, seed=99)  # without manual_seed, each start has another
        assert resumed.resume(state)
        found.append(flat(samples(resumed, 31 - steps, BATCH // world, workers)))
    together = [sample for step in zip(*found, strict=True) for sample in step]
    assert together == expected[steps * BATCH :]


def test_a_place_among_other_data_begins_a_new_epoch() -> None:
    left = order()
    left.advance()
    other = TrainingOrder(RandomNumbers(), 1, 0, RATIO + 1, seed=5, total_batch=BATCH)
    assert not other.resume(left.state())
    assert other.place == other.total_size
    whole = TrainingOrder(RandomNumbers(), 1, 0, RATIO + 1, seed=5, total_batch=BATCH)
    assert samples(other, 14) == samples(whole, 28)[1:]


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="2 samples of a step are too few for 3 processes"):
        order(0, 3)
    with pytest.raises(ValueError, match="there are no training images"):
        TrainingOrder([], 1, 0)


def test_the_global_generators_are_left_alone() -> None:
    def state() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]

    before = state()
    samples(order())
    assert state() == before


def test_indices_reach_workers_with_their_seeds() -> None:
    copy = pickle.loads(pickle.dumps(SeededIndex.of(3, 17)))
    assert (copy, copy.seed) == (3, 17)
