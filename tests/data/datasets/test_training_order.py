"""The order of training samples and what is drawn for them: alike for any workers, ranks and resumes."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher, PrefetchDataLoader
from torch.utils.data import DataLoader, Dataset

from lmlt_arch.data.datasets.training_order import SeededDataset, SeededIndex, TrainingOrder

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


Sample = tuple[float, ...]


def order(rank: int = 0, world: int = 1, seed: int = 5) -> TrainingOrder:
    return TrainingOrder(RandomNumbers(), world, rank, RATIO, seed=seed)


def samples(
    sampler: TrainingOrder, epochs: int = 2, workers: int = 0, loader_type: Any = DataLoader, **more: Any
) -> list[list[list[Sample]]]:
    """Epochs of batches of samples, as BasicSR's loop gets them."""
    loader = loader_type(
        dataset=SeededDataset(RandomNumbers()),
        batch_size=BATCH,
        sampler=sampler,
        num_workers=workers,
        drop_last=True,
        **more,
    )
    loader.generator = torch.Generator().manual_seed(0)
    prefetcher = CPUPrefetcher(loader)
    found = []
    for epoch in range(sampler.epoch, sampler.epoch + epochs):
        sampler.set_epoch(epoch)
        prefetcher.reset()
        found.append([])
        while (batch := prefetcher.next()) is not None:
            rows = zip(batch["index"].tolist(), batch["drawn"].tolist(), strict=True)
            found[-1].append([(index, *drawn) for index, drawn in rows])
    return found


def test_the_order_is_basicsrs() -> None:
    for rank in (0, 1):
        ours, stock = order(rank, 2), EnlargedSampler(RandomNumbers(), 2, rank, RATIO)
        for epoch in (0, 3):
            ours.set_epoch(epoch)
            stock.set_epoch(epoch)
            assert [int(index) for index in ours] == list(stock)
            assert len(ours) == len(stock)


def test_all_samples_differ_and_depend_on_the_seed() -> None:
    found = [sample for epoch in samples(order()) for batch in epoch for sample in batch]
    assert len(found) == 2 * (IMAGES * RATIO // BATCH) * BATCH
    assert len({sample[1:] for sample in found}) == len(found)
    assert samples(order()) == samples(order())
    assert samples(order(seed=6)) != samples(order())


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


def test_two_ranks_share_the_samples_of_one() -> None:
    together = [
        {sample for batch in epoch for sample in batch}
        for epoch in samples(TrainingOrder(RandomNumbers(), 1, 0, 4, seed=5))
    ]
    for rank in (0, 1):
        for number, epoch in enumerate(samples(TrainingOrder(RandomNumbers(), 2, rank, 4, seed=5))):
            share = {sample for batch in epoch for sample in batch}
            assert len(share) == IMAGES * 2
            assert share <= together[number]
            together[number] -= share
    assert together == [set(), set()]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("epoch", "batches"), [(0, 0), (0, 3), (1, 9), (1, 10)])
def test_a_resume_goes_on_at_the_place(epoch: int, batches: int, workers: int) -> None:
    whole = order()
    expected = samples(whole, epochs=3)
    left = order()
    left.set_epoch(epoch)
    left.consumed += batches * BATCH
    state = left.state()

    resumed = order(seed=99)  # without manual_seed, each start has another
    assert resumed.resume(state)
    resumed.epoch = epoch  # BasicSR's loop begins there
    found = samples(resumed, epochs=3 - epoch, workers=workers)
    assert found == [expected[epoch][batches:], *expected[epoch + 1 :]]
    resumed.set_epoch(epoch)
    assert resumed.consumed == batches * BATCH
    resumed.set_epoch(epoch + 1)
    assert resumed.consumed == 0


def test_a_place_among_other_data_has_no_meaning() -> None:
    state = {**order().state(), "consumed": 4}
    other = TrainingOrder(RandomNumbers(), 1, 0, RATIO + 1, seed=5)
    assert not other.resume(state)
    assert samples(other) == samples(TrainingOrder(RandomNumbers(), 1, 0, RATIO + 1, seed=5))


def test_the_global_generators_are_left_alone() -> None:
    def state() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]

    before = state()
    samples(order())
    assert state() == before


def test_indices_reach_workers_with_their_seeds() -> None:
    copy = pickle.loads(pickle.dumps(SeededIndex.of(3, 17)))
    assert (copy, copy.seed) == (3, 17)
