"""Photographs read and decoded in worker processes, ahead of the model and in order.

The first few are read here, so that a handful of photographs never waits for processes to start.
A photograph that takes its worker down (out of memory, a fault in a decoder) costs itself alone:
it is tried once more in a process of its own, then it is a failure like any other.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process

from serving.batch.item import Item, Photo
from serving.batch.reading import read_item

N_READ_HERE = 16  # photographs; a worker needs about as long to start
CRASHED = "reading it ended the worker process (out of memory, or a fault in the image decoder)"


def read_ahead(
    items: Iterable[Item], *, workers: int, n_ahead: int, keep_data: bool = False
) -> Iterator[Photo]:
    """One photograph an item, in order. At most `n_ahead` are read but not yet taken.

    workers: processes; 0 reads here, each photograph when it is asked for.
    """
    remaining = iter(items)
    for item in remaining if workers == 0 else islice(remaining, N_READ_HERE):
        yield read_item(item, keep_data)
    if workers == 0:
        return
    first = next(remaining, None)
    if first is None:
        return
    readers = _Readers(workers, keep_data)
    try:
        readers.ask(first)
        while readers.n_asked:
            # Asked for before the head is taken, so that workers stay busy while the model works.
            for item in islice(remaining, max(0, n_ahead - readers.n_asked)):
                readers.ask(item)
            yield readers.take()
    finally:
        readers.close()


class _Readers:
    """A pool of processes, and the items that it was asked for in order."""

    def __init__(self, workers: int, keep_data: bool) -> None:
        self._workers = workers
        self._keep_data = keep_data
        self._pool = _pool(workers)
        self._asked: deque[tuple[Item, Future[Photo] | None]] = deque()

    @property
    def n_asked(self) -> int:
        return len(self._asked)

    def ask(self, item: Item) -> None:
        self._asked.append((item, self._submit(item)))

    def take(self) -> Photo:
        """The oldest item's photograph."""
        item, future = self._asked[0]
        try:
            if future is None:
                raise BrokenProcessPool
            photo = future.result()
        except BrokenProcessPool:
            photo = self._alone(item)
        self._asked.popleft()
        return photo

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, item: Item) -> Future[Photo] | None:
        try:
            return self._pool.submit(read_item, item, self._keep_data)
        except BrokenProcessPool:  # seen when the head is taken
            return None

    def _alone(self, item: Item) -> Photo:
        """After a crash whose culprit is not known: the head by itself, then all others again."""
        self.close()
        with _pool(1) as alone:
            try:
                photo = alone.submit(read_item, item, self._keep_data).result()
            except BrokenProcessPool:
                photo = Photo(item.name, error=CRASHED)
        self._pool = _pool(self._workers)
        rest = [asked for asked, _ in self._asked][1:]
        self._asked = deque([(item, None), *((other, self._submit(other)) for other in rest)])
        return photo


def _pool(workers: int) -> ProcessPoolExecutor:
    # Not forked: the model's threads may hold locks that a forked child would wait for.
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us; no traceback a worker
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Or the workers of a killed run would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
