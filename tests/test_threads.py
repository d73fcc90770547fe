"""Work ahead of and behind a thread: it overlaps, little waits, and errors and endings get through."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lmlt_arch.threads import ahead, behind, in_pool

# Long enough for a thread to have done what it would do.
SETTLED = 0.3


class Oops(Exception):
    """Something went wrong."""


def counting(numbers: list[int], most: int = 1000) -> Generator[int, None, None]:
    for number in range(most):
        numbers.append(number)
        yield number


def nobody_left(before: list[threading.Thread]) -> bool:
    """Whether no thread has come; one of an earlier test may have ended."""
    return {*threading.enumerate()} <= {*before}


def test_reading_ahead_gives_all_in_order() -> None:
    with ahead(counting([], 50), 2) as items:
        assert list(items) == list(range(50))


def test_reading_ahead_stays_near() -> None:
    made: list[int] = []
    with ahead(counting(made), 2) as items:
        for taken in range(1, 4):
            next(items)
            threading.Event().wait(SETTLED)
            # Two wait, and one has been made that finds no room.
            assert len(made) == taken + 3


def test_reading_ahead_raises_after_what_came_before() -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        raise Oops

    with ahead(failing(), 2) as items:
        assert next(items) == 1
        with pytest.raises(Oops):
            next(items)


def test_leaving_early_ends_the_reader() -> None:
    closed = threading.Event()
    threads = threading.enumerate()

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with pytest.raises(Oops), ahead(endless(), 2) as items:
        next(items)
        raise Oops
    assert closed.is_set()
    assert nobody_left(threads)


def test_writing_behind_takes_all_in_order() -> None:
    taken: list[int] = []
    with behind(taken.append, 2) as put:
        for number in range(50):
            put(number)
    assert taken == list(range(50))


def test_writing_behind_stays_near() -> None:
    gate, put_so_far = threading.Event(), []

    def slow(number: int) -> None:
        gate.wait()

    def putting() -> None:
        with behind(slow, 2) as put:
            for number in range(10):
                put(number)
                put_so_far.append(number)

    thread = threading.Thread(target=putting)
    thread.start()
    threading.Event().wait(SETTLED)
    # One is being written, two wait, and the next finds no room.
    assert put_so_far == [0, 1, 2]
    gate.set()
    thread.join()
    assert len(put_so_far) == 10


def test_writing_behind_raises_what_went_wrong() -> None:
    threads = threading.enumerate()

    def failing(number: int) -> None:
        if number == 3:
            raise Oops

    with pytest.raises(Oops), behind(failing, 2) as put:
        for number in range(1000):
            put(number)
    with pytest.raises(Oops), behind(failing, 10) as put:
        put(3)
    assert nobody_left(threads)


def test_an_error_elsewhere_waits_for_what_was_put() -> None:
    taken: list[int] = []
    threads = threading.enumerate()
    with pytest.raises(Oops), behind(taken.append, 2) as put:
        put(1)
        put(2)
        raise Oops
    assert taken == [1, 2]
    assert nobody_left(threads)


def test_a_pool_gives_all_in_order_and_stays_near() -> None:
    made: list[int] = []
    results = in_pool(ThreadPoolExecutor(2), str, counting(made, 50), 4)
    assert next(results) == "0"
    assert len(made) == 4
    assert [*results] == [str(number) for number in range(1, 50)]


def test_a_pool_gives_what_is_there_first() -> None:
    first_may_end = threading.Event()

    def work(number: int) -> int:
        assert number or first_may_end.wait(10)
        return number

    results = in_pool(ThreadPoolExecutor(2), work, range(3), 2, ordered=False)
    assert {next(results), next(results)} == {1, 2}
    first_may_end.set()
    assert [*results] == [0]


def test_a_pool_raises_and_works_on_nothing_more() -> None:
    begun: list[int] = []
    threads = threading.enumerate()

    def failing(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise Oops

    results = in_pool(ThreadPoolExecutor(1), failing, counting([]), 3)
    next(results)
    with pytest.raises(Oops):
        next(results)
    assert len(begun) <= 4
    assert nobody_left(threads)
