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
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from serving.answer_stream import AnswerStream, Item
from serving.errors import OverloadedError
from serving.limits import Limits
from serving.metrics import Metrics, PipelineWatch
from vlm.pipeline import Answer, Pipeline, Request

T = TypeVar("T")


@dataclass(frozen=True)
class _Asked:
    request: Request
    future: Future[Answer]
    left: threading.Event = field(default_factory=threading.Event)  # nobody waits any more
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Call(Generic[T]):
    work: Callable[[Pipeline], T]
    future: Future[T]
    since: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class _Stream:
    """A stream's request, and how far it has come; the worker's thread alone uses `pieces`."""

    request: Request
    out: AnswerStream
    pieces: Iterator[str | Answer] | None = None  # once it has begun
    since: float = field(default_factory=time.monotonic)


class Worker:
    """Owns `pipeline` from here on; its methods may be called from any event loop.

    Also the engine "transformers", see ``serving.engines.engine``.
    """

    name = "transformers"

    def __init__(self, pipeline: Pipeline, limits: Limits, metrics: Metrics | None = None) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._metrics = metrics or Metrics()
        pipeline.watch = PipelineWatch(self._metrics)
        self._metrics.count_kept(pipeline)
        self._busy_since: float | None = None
        self._queue: queue.Queue[_Asked | _Call[Any] | _Stream | None] = queue.Queue()
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
    def busy_s(self) -> float:
        """For how many seconds the thread has been at the job it is at; 0 while it waits."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def n_open(self) -> int:
        """Requests accepted and not yet answered."""
        return self._n_open

    async def answer(self, request: Request) -> Answer:
        """The answer, made in one batch with others. Raises OverloadedError when too much waits."""
        asked = _Asked(request, Future())
        self._accept(asked)
        asked.future.add_done_callback(self._closed_one)
        try:
            return await asyncio.wrap_future(asked.future)
        except asyncio.CancelledError:
            asked.left.set()  # a future that runs cannot be cancelled; its batch looks here
            raise

    async def call(self, work: Callable[[Pipeline], T]) -> T:
        """What `work` gives back, run alone on the pipeline. Raises OverloadedError likewise."""
        future: Future[T] = Future()
        self._accept(_Call(work, future))
        future.add_done_callback(self._closed_one)
        return await asyncio.wrap_future(future)

    def stream(self, request: Request) -> AnswerStream:
        """A stream that has to be read or cancelled. Raises OverloadedError likewise."""
        out = AnswerStream(self._limits.deadline_s)
        self._accept(_Stream(request, out))
        return out

    def close(self, timeout_s: float = 10.0) -> None:
        """Refuses what waits, and ends the thread at the next token of the batch that it is at."""
        self._closing = True
        self._queue.put(None)
        self._thread.join(timeout_s)

    def refuse(self) -> None:
        """`close`, as every engine has it."""
        self.close()

    async def aclose(self) -> None:
        """Likewise."""
        self.close()

    def _accept(self, job: "_Asked | _Call[Any] | _Stream") -> None:
        with self._lock:
            if not self.alive:
                raise OverloadedError.closing()
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
        streams: list[_Stream] = []
        waiting: deque[_Stream] = deque()
        while not self._closing:
            jobs = self._collect(idle=not streams and not waiting)
            began = time.monotonic()
            self._busy_since = began
            asked = [job for job in jobs if isinstance(job, _Asked) and _begin(job.future)]
            if asked:
                self._metrics.batch_size.observe(len(asked))
                for one in asked:
                    self._waited(one, began)
                self._answer(asked)
            for job in jobs:
                if isinstance(job, _Call) and _begin(job.future):
                    self._busy_since = time.monotonic()
                    self._waited(job, self._busy_since)
                    self._call(job)
            waiting += [job for job in jobs if isinstance(job, _Stream)]
            until = 2 * time.monotonic() - began  # as long again as the batch took
            while not self._closing:
                self._busy_since = time.monotonic()
                while waiting and len(streams) < self._limits.max_streams:
                    streams.append(waiting.popleft())
                    self._waited(streams[-1], self._busy_since)
                streams = [stream for stream in streams if self._advance(stream)]
                if not streams or time.monotonic() >= until:
                    break
        self._refuse([*streams, *waiting])

    def _waited(self, job: "_Asked | _Call[Any] | _Stream", now: float) -> None:
        self._metrics.queue_seconds.observe(now - job.since)

    def _collect(self, *, idle: bool) -> list["_Asked | _Call[Any] | _Stream"]:
        """What waits, up to a batch; where nothing else is to do, waits for it."""
        self._busy_since = None
        jobs: list[_Asked | _Call[Any] | _Stream] = []
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
        stopped: set[int] = set()

        def unwanted(i: int) -> bool:
            if self._closing or jobs[i].left.is_set():
                stopped.add(i)
            return i in stopped

        try:
            answers = self._pipeline.answer([job.request for job in jobs], unwanted=unwanted)
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
        for i, (job, answer) in enumerate(zip(jobs, answers, strict=True)):
            if i in stopped:  # half an answer is none
                job.future.set_exception(OverloadedError.closing())
            else:
                job.future.set_result(answer)

    def _call(self, job: _Call[Any]) -> None:
        try:
            job.future.set_result(job.work(self._pipeline))
        except Exception as error:
            job.future.set_exception(error)

    def _advance(self, stream: _Stream) -> bool:
        """One more piece. False once the stream has ended, failed or was cancelled."""
        item: Item
        if stream.out.cancelled:
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
        stream.out.put(item)
        return goes_on

    def _end(self, stream: _Stream) -> bool:
        # Closing runs the generator's own clean-up; what that raises concerns nobody any more.
        close = getattr(stream.pieces, "close", None)
        if close is not None:
            with contextlib.suppress(Exception):
                close()
        self._closed_one()
        return False

    def _refuse(self, streams: list[_Stream]) -> None:
        """Tells all who wait that no answer will come."""
        error = OverloadedError.closing()
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._queue.get_nowait()
                if isinstance(job, _Stream):
                    streams.append(job)
                elif job is not None and _begin(job.future):
                    job.future.set_exception(error)
        for stream in streams:
            self._end(stream)
            stream.out.put(error)


def _begin(future: Future[Any]) -> bool:
    """False where the one who asked has left meanwhile."""
    return future.set_running_or_notify_cancel()
