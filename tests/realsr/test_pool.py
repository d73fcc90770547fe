"""The pool keeps pairs together, is reproducible, and goes on from a state."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from realsr.models.pool import PairPool

Batch = tuple[Tensor, Tensor, list[str]]


def batches(size: int = 2, dtype: torch.dtype = torch.float32) -> Iterator[Batch]:
    """Endless batches whose values, and names, are the numbers of the pairs (modulo 256)."""
    for first in itertools.count(0, size):
        pairs = torch.arange(first, first + size)
        values = (pairs % 256).to(dtype)[:, None, None, None] / 255
        yield values.expand(-1, 3, 2, 2), values.expand(-1, 3, 4, 4), [str(int(pair)) for pair in pairs]


def numbers(batch: Batch) -> list[int]:
    lq, gt, files = batch
    assert torch.equal(lq[:, 0, 0, 0], gt[:, 0, 0, 0])
    assert (lq == lq[:, :1, :1, :1]).all()
    assert (gt == gt[:, :1, :1, :1]).all()
    found = [int(file) for file in files]
    assert [round(value * 255) for value in gt[:, 0, 0, 0].tolist()] == [number % 256 for number in found]
    return found


def test_pairs_stay_together_and_none_is_lost_or_doubled() -> None:
    pool, source = PairPool(8, Generator().manual_seed(0)), batches()
    for count in range(4):
        assert numbers(pool.exchange(*next(source))) == [2 * count, 2 * count + 1]
    assert len(pool) == 8
    seen = [number for _ in range(50) for number in numbers(pool.exchange(*next(source)))]
    assert len(set(seen)) == 100
    inside = [int(file) for file in pool.state_dict()["files"]]
    assert sorted(seen + inside) == list(range(108))
    # A pair that enters stays for (size / batch - 1) exchanges or so.
    assert seen != sorted(seen)
    ages = [8 + 2 * (index // 2) - number for index, number in enumerate(seen)]
    assert 3 < sum(ages) / len(ages) < 12
    assert min(ages) > 0


def test_every_pair_is_as_likely() -> None:
    pool, source = PairPool(4, Generator().manual_seed(1)), batches(1)
    for _ in range(4):
        pool.exchange(*next(source))
    waits = []
    entered = {number: number for number in range(4)}
    for time in range(4, 4000):
        (out,) = numbers(pool.exchange(*next(source)))
        entered[time] = time
        waits.append(time - entered[out])
    # Chosen with probability 1/4 at each exchange: geometric, with mean 4.
    assert sum(waits[100:]) / len(waits[100:]) == pytest.approx(4, rel=0.1)


def test_batches_are_no_part_of_the_pool() -> None:
    pool, source = PairPool(2, Generator().manual_seed(0)), batches()
    first = next(source)
    taken = pool.exchange(first[0].clone(), first[1].clone(), first[2])
    taken[0].zero_()
    out = pool.exchange(*next(source))
    assert sorted(numbers(out)) == [0, 1]
    out[1].zero_()
    assert sorted(numbers(pool.exchange(*next(source)))) == [2, 3]


@pytest.mark.parametrize("before", [0, 1, 3, 9])
@pytest.mark.parametrize("shift", [0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_goes_on_from_a_state(tmp_path: Path, before: int, shift: float, dtype: torch.dtype) -> None:
    """`shift`: values that are no multiples of 1/255."""
    generator = Generator().manual_seed(3)
    pool, source = PairPool(6, generator), batches(dtype=dtype)

    def shifted() -> Batch:
        lq, gt, files = next(source)
        return lq, gt + shift, files

    for _ in range(before):
        pool.exchange(*shifted())
    torch.save({"pool": pool.state_dict(), "generator": generator.get_state()}, tmp_path / "state.pth")
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    if before:
        assert state["pool"]["lq"]["images"].dtype == torch.uint8
        assert state["pool"]["gt"]["images"].dtype == (dtype if shift else torch.uint8)
        assert len(state["pool"]["lq"]["images"]) == min(2 * before, 6)
    other_generator = Generator()
    other = PairPool(6, other_generator)
    other.load_state_dict(state["pool"], "cpu")
    other_generator.set_state(state["generator"])
    for _ in range(8):
        batch = shifted()
        mine, theirs = pool.exchange(*batch), other.exchange(*batch)
        assert torch.equal(mine[0], theirs[0])
        assert torch.equal(mine[1], theirs[1])
        assert mine[0].dtype == theirs[0].dtype == dtype
        assert mine[2] == theirs[2]


def test_a_state_is_a_copy() -> None:
    pool, source = PairPool(4, Generator().manual_seed(0)), batches()
    for _ in range(2):
        pool.exchange(*next(source))
    state = pool.state_dict()
    for _ in range(5):
        pool.exchange(*next(source))
    other = PairPool(4, Generator())
    other.load_state_dict(state, "cpu")
    assert sorted(other.state_dict()["files"]) == ["0", "1", "2", "3"]


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    pool, source = PairPool(2, Generator()), batches()
    for _ in range(4):
        pool.exchange(*next(source))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_pool() -> None:
    pool, source = PairPool(0, Generator()), batches()
    for start in range(0, 20, 2):
        assert numbers(pool.exchange(*next(source))) == [start, start + 1]
    assert len(pool) == 0


def test_batches_of_several_sizes() -> None:
    """Shares of a total batch need not be equal: what goes in comes out, once."""
    pool, smaller, larger = PairPool(7, Generator().manual_seed(1)), batches(2), batches(3)
    seen = [numbers(pool.exchange(*next(source))) for source in (larger, smaller, larger, larger, smaller)]
    assert [len(each) for each in seen] == [3, 2, 3, 3, 2]
    assert len(pool) == 7, "the third batch did not fit, the last one did"


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="queue_size 4 must be at least the batch, 5"):
        PairPool(4, Generator()).exchange(*next(batches(5)))
    lq, gt, files = next(batches(3))
    pool = PairPool(6, Generator())
    pool.exchange(lq, gt, files)
    with pytest.raises(ValueError, match="2x2 and 4x4 pixels, but the batch has 2x2 and 6x6"):
        pool.exchange(lq, torch.zeros(3, 3, 6, 6), files)
    with pytest.raises(ValueError, match="6 pairs cannot become one of 3"):
        PairPool(3, Generator()).load_state_dict(pool.state_dict(), "cpu")
