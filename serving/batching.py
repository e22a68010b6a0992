"""One thread that owns the pipeline, and the queue in front of it.

The pipeline is not safe to share, so all of its work happens here: requests that wait together are
answered as one batch; streams advance in turn, one piece each, and get as much time as the batches
between them; anything else (features of an image) is a call. What comes in above the limit is
refused at once rather than left to wait for an answer that its sender no longer wants.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from serving.errors import OverloadedError
from serving.limits import Limits
from vlm.pipeline import Answer, Pipeline, Request

T = TypeVar("T")
Item = str | Answer | Exception


@dataclass(frozen=True)
class _Asked:
    request: Request
    future: Future[Answer]


@dataclass(frozen=True)
class _Call(Generic[T]):
    work: Callable[[Pipeline], T]
    future: Future[T]


@dataclass(eq=False)
class Stream:
    """One streamed answer: text pieces, then the Answer. Belongs to the event loop that made it."""

    request: Request
    loop: asyncio.AbstractEventLoop
    items: asyncio.Queue[Item] = field(default_factory=asyncio.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)
    pieces: Iterator[str | Answer] | None = None  # the worker's, once it has begun

    async def __aiter__(self) -> AsyncIterator[str | Answer]:
        """Each item as it is made. Raises what the pipeline raised."""
        while True:
            item = await self.items.get()
            if isinstance(item, Exception):
                raise item
            yield item
            if isinstance(item, Answer):
                return

    def cancel(self) -> None:
        """Nobody listens any more: the worker drops the rest."""
        self.cancelled.set()

    def put(self, item: Item) -> None:
        """From the worker's thread."""
        try:
            self.loop.call_soon_threadsafe(self.items.put_nowait, item)
        except RuntimeError:  # the loop was closed under it
            self.cancel()


class Worker:
    """Owns `pipeline` from here on; its methods may be called from any event loop.

    Also the engine "transformers", see ``serving.engines.engine``.
    """

    name = "transformers"

    def __init__(self, pipeline: Pipeline, limits: Limits) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._queue: queue.Queue[_Asked | _Call[Any] | Stream | None] = queue.Queue()
        self._lock = threading.Lock()
        self._n_open = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once closed, and after a fault that ended the thread."""
        return self._thread.is_alive() and not self._closing

    @property
    def n_open(self) -> int:
        """Requests accepted and not yet answered."""
        return self._n_open

    async def answer(self, request: Request) -> Answer:
        """The answer, made in one batch with others. Raises OverloadedError when too much waits."""
        future: Future[Answer] = Future()
        self._accept(_Asked(request, future))
        future.add_done_callback(self._closed_one)
        return await asyncio.wrap_future(future)

    async def call(self, work: Callable[[Pipeline], T]) -> T:
        """What `work` gives back, run alone on the pipeline. Raises OverloadedError likewise."""
        future: Future[T] = Future()
        self._accept(_Call(work, future))
        future.add_done_callback(self._closed_one)
        return await asyncio.wrap_future(future)

    def stream(self, request: Request) -> Stream:
        """A stream that has to be read or cancelled. Raises OverloadedError likewise."""
        stream = Stream(request, asyncio.get_running_loop())
        self._accept(stream)
        return stream

    def close(self, timeout_s: float = 10.0) -> None:
        """Refuses what waits and ends the thread after the batch it is at."""
        self._closing = True
        self._queue.put(None)
        self._thread.join(timeout_s)

    async def aclose(self) -> None:
        """`close`, as every engine has it."""
        self.close()

    def _accept(self, job: "_Asked | _Call[Any] | Stream") -> None:
        with self._lock:
            if not self.alive:
                raise OverloadedError("the server is shutting down; send the request again later")
            if self._n_open >= self._limits.max_open:
                raise OverloadedError(
                    f"{self._n_open} requests are waiting, at most {self._limits.max_open} may; "
                    "send the request again in a few seconds"
                )
            self._n_open += 1
        self._queue.put(job)

    def _closed_one(self, _: object = None) -> None:
        with self._lock:
            self._n_open -= 1

    # From here on: the worker's thread.

    def _run(self) -> None:
        streams: list[Stream] = []
        waiting: deque[Stream] = deque()
        while not self._closing:
            jobs = self._collect(idle=not streams and not waiting)
            began = time.monotonic()
            self._answer([job for job in jobs if isinstance(job, _Asked) and _begin(job.future)])
            for job in jobs:
                if isinstance(job, _Call) and _begin(job.future):
                    self._call(job)
            waiting += [job for job in jobs if isinstance(job, Stream)]
            until = 2 * time.monotonic() - began  # as long again as the batch took
            while True:
                while waiting and len(streams) < self._limits.max_streams:
                    streams.append(waiting.popleft())
                streams = [stream for stream in streams if self._advance(stream)]
                if not streams or time.monotonic() >= until:
                    break
        self._refuse([*streams, *waiting])

    def _collect(self, *, idle: bool) -> list["_Asked | _Call[Any] | Stream"]:
        """What waits, up to a batch; where nothing else is to do, waits for it."""
        jobs: list[_Asked | _Call[Any] | Stream] = []
        deadline = None if idle else time.monotonic()
        while len(jobs) < self._limits.max_batch:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                job = self._queue.get(timeout=left) if left != 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                break
            jobs.append(job)
            if deadline is None:
                deadline = time.monotonic() + self._limits.batch_wait_ms / 1000
        return jobs

    def _answer(self, jobs: list[_Asked]) -> None:
        """One batch. Where it fails, halves are tried, so that only the guilty request fails."""
        if not jobs:
            return
        try:
            answers = self._pipeline.answer([job.request for job in jobs])
            if len(answers) != len(jobs):
                raise RuntimeError(f"{len(answers)} answers to {len(jobs)} requests")
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            half = len(jobs) // 2
            self._answer(jobs[:half])
            self._answer(jobs[half:])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)

    def _call(self, job: _Call[Any]) -> None:
        try:
            job.future.set_result(job.work(self._pipeline))
        except Exception as error:
            job.future.set_exception(error)

    def _advance(self, stream: Stream) -> bool:
        """One more piece. False once the stream has ended, failed or was cancelled."""
        item: Item
        if stream.cancelled.is_set():
            return self._end(stream)
        try:
            if stream.pieces is None:
                stream.pieces = self._pipeline.stream(stream.request)
            item = next(stream.pieces)
        except StopIteration:
            item = RuntimeError("the pipeline's stream ended without an answer")
        except Exception as error:
            item = error
        # The place is free before the client knows: it may send its next request at once.
        goes_on = isinstance(item, str) or self._end(stream)
        stream.put(item)
        return goes_on

    def _end(self, stream: Stream) -> bool:
        # Closing runs the generator's own clean-up; what that raises concerns nobody any more.
        close = getattr(stream.pieces, "close", None)
        if close is not None:
            with contextlib.suppress(Exception):
                close()
        self._closed_one()
        return False

    def _refuse(self, streams: list[Stream]) -> None:
        """Tells all who wait that no answer will come."""
        error = OverloadedError("the server is shutting down; send the request again later")
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._queue.get_nowait()
                if isinstance(job, Stream):
                    streams.append(job)
                elif job is not None and _begin(job.future):
                    job.future.set_exception(error)
        for stream in streams:
            self._end(stream)
            stream.put(error)


def _begin(future: Future[Any]) -> bool:
    """False where the one who asked has left meanwhile."""
    return future.set_running_or_notify_cancel()
