"""Bounded producers and consumers: work that runs ahead of the calling thread, or behind it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing, contextmanager
from itertools import islice
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

# Seconds between two checks of whether the other side of a queue still runs.
_CHECK_S = 0.05


class _Pipe(Generic[T]):
    """A queue of at most `depth` items with an end, which either side may leave early."""

    def __init__(self, depth: int) -> None:
        self._queue: Queue[T] = Queue(depth)
        self._complete = threading.Event()
        self._left = threading.Event()
        self.failure: BaseException | None = None

    def put(self, item: T) -> bool:
        """Add an item, waiting for room; False if the consumer has left."""
        while not self._left.is_set():
            try:
                self._queue.put(item, timeout=_CHECK_S)
            except Full:
                continue
            return True
        return False

    def complete(self) -> None:
        """Mark the end: nothing more will be put."""
        self._complete.set()

    def leave(self) -> None:
        """Mark that nothing more will be taken."""
        self._left.set()

    def __iter__(self) -> Iterator[T]:
        while not self._left.is_set():
            # Read first: a queue that is empty after the last item was put stays empty.
            complete = self._complete.is_set()
            try:
                yield self._queue.get(block=not complete, timeout=_CHECK_S)
            except Empty:
                if complete:
                    return


@contextmanager
def ahead(items: Generator[T, None, None], depth: int) -> Iterator[Iterator[T]]:
    """Iterate over `items` in a thread of its own, at most `depth` items ahead.

    An exception of `items` is raised where its next item would have been taken.

    Args:
        items: produces the items; closed in its thread on leaving the context.
        depth: items that wait to be taken.

    Yields:
        The items, in order.
    """
    pipe: _Pipe[T] = _Pipe(depth)

    def run() -> None:
        try:
            with closing(items):
                for item in items:
                    if not pipe.put(item):
                        return
        except BaseException as error:
            pipe.failure = error
        finally:
            pipe.complete()

    def taken() -> Iterator[T]:
        yield from pipe
        if pipe.failure is not None:
            raise pipe.failure

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        pipe.leave()
        thread.join()


@contextmanager
def behind(consume: Callable[[T], None], depth: int) -> Iterator[Callable[[T], None]]:
    """Hand items to `consume` in a thread of its own, at most `depth` items behind.

    An exception of `consume` is raised by the next call, or on leaving the context, which waits for the rest.

    Args:
        consume: called with each item, in order.
        depth: items that wait to be consumed.

    Yields:
        The function to call with each item.
    """
    pipe: _Pipe[T] = _Pipe(depth)

    def run() -> None:
        try:
            for item in pipe:
                consume(item)
        except BaseException as error:
            pipe.failure = error
        finally:
            pipe.leave()

    def put(item: T) -> None:
        if not pipe.put(item) and pipe.failure is not None:
            raise pipe.failure

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield put
    finally:
        pipe.complete()
        try:
            thread.join()
        finally:
            # After Ctrl-C while waiting.
            pipe.leave()
            thread.join()
    if pipe.failure is not None:
        raise pipe.failure


def in_pool(
    pool: Executor, work: Callable[[S], T], items: Iterable[S], depth: int, *, ordered: bool = True
) -> Generator[T, None, None]:
    """Work on items in a pool of threads or processes, at most `depth` items ahead.

    Args:
        pool: shut down in the end; work that has not begun is canceled.
        work: called with each item in the pool.
        items: taken one by one, in the calling thread.
        depth: items whose results have not been taken.
        ordered: whether results come in the order of the items, or as soon as they are there.

    Yields:
        The results; an exception of `work` is raised in place of its result.
    """
    remaining = iter(items)
    pending: deque[Future[T]] = deque()
    try:
        while True:
            pending.extend(pool.submit(work, item) for item in islice(remaining, depth - len(pending)))
            if not pending:
                return
            if ordered:
                yield pending.popleft().result()
                continue
            finished, running = wait(pending, return_when=FIRST_COMPLETED)
            pending = deque(running)
            for future in finished:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
