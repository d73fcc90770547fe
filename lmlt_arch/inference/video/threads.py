"""Work that runs ahead of the calling thread, or behind it, with little in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")

# Seconds that one side waits for a queue before it looks whether the other side is still there.
_LOOK = 0.05


class _Pipe(Generic[T]):
    """A queue of at most `depth` items with an end, which either side may leave early."""

    def __init__(self, depth: int) -> None:
        self._queue: Queue[T] = Queue(depth)
        self._complete = threading.Event()
        self._left = threading.Event()
        self.failure: BaseException | None = None

    def put(self, item: T) -> bool:
        """Add an item, waiting for room; False if nobody takes items any more."""
        while not self._left.is_set():
            try:
                self._queue.put(item, timeout=_LOOK)
            except Full:
                continue
            return True
        return False

    def complete(self) -> None:
        """Nothing more will be put."""
        self._complete.set()

    def leave(self) -> None:
        """Nothing more will be taken."""
        self._left.set()

    def __iter__(self) -> Iterator[T]:
        while not self._left.is_set():
            # Asked first: what is empty after the last item was put stays empty.
            complete = self._complete.is_set()
            try:
                yield self._queue.get(timeout=_LOOK)
            except Empty:
                if complete:
                    return


@contextmanager
def ahead(items: Generator[T, None, None], depth: int) -> Iterator[Iterator[T]]:
    """Iterate over `items` in a thread of its own, at most `depth` items ahead.

    What `items` raises is raised where its next item would have been taken.
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
    """A function that hands items to `consume` in a thread of its own, at most `depth` items behind.

    What `consume` raises is raised by the next call, or on leaving the context, which waits for all items.
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
            # For one who does not want to wait.
            pipe.leave()
            thread.join()
    if pipe.failure is not None:
        raise pipe.failure
