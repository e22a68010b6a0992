"""Works through batches one after another, beside the requests that come in over HTTP.

A few lines are open at once, so that they share the model's batches and leave room for others. The
answers are on disk as they come: a server that ends, by a signal or a crash, goes on at its next
start where it was.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

import anyio

from serving.batches.lines import check_lines, parse_line, read_lines
from serving.batches.record import Record, answered, append, load, load_all, no_batch, save
from serving.batches.wire import Batch, BatchErrors, BatchRequest, Counts, Status
from serving.errors import HttpError, OverloadedError, describe
from serving.files.store import FileStore, new_file_id

WINDOW_S = 24 * 3600
RETRY_S = 0.5  # after the queue was full
AT_ONCE = 16  # lines open at once

# url and body to the answer's JSON; raises as an endpoint does.
AnswerLine = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]


class NotNowError(HttpError):
    status = 409
    code = "conflict"


class BatchRunner:
    """Belongs to one event loop from `start` to `close`."""

    def __init__(self, store: FileStore, max_line: int) -> None:
        """max_line: bytes of one request."""
        self.store = store
        self._max_line = max_line
        self._open: dict[str, Record] = {}  # not yet ended; their counts are ahead of the disk's
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self, answer: AnswerLine) -> None:
        """Takes up what an earlier server left, oldest first."""
        records = [
            r for r in load_all(self.store) if r.batch.status in ("in_progress", "cancelling")
        ]
        for record in reversed(records):
            answered(self.store, record)
            self._enqueue(record)
        self.store.forget_all_but([one for r in records for one in (r.output, r.errors)])
        self._task = asyncio.create_task(self._run(answer))

    async def close(self) -> None:
        """Leaves what is open to the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.store.close()

    async def create(self, body: BatchRequest, owner: str | None) -> Batch:
        """A batch of this owner, of one of its files, that waits its turn.

        One whose input has faults has failed at once. Raises NotFoundError.
        """
        file = self.store.get(body.input_file_id, owner, "input_file_id")
        path = self.store.path(file.id)
        total, faults = await anyio.to_thread.run_sync(
            check_lines, path, body.endpoint, self._max_line
        )
        now = int(time.time())
        batch = Batch(
            id=f"batch_{uuid4().hex}",
            endpoint=body.endpoint,
            errors=BatchErrors(data=faults) if faults else None,
            input_file_id=file.id,
            status="failed" if faults else "in_progress",
            created_at=now,
            in_progress_at=None if faults else now,
            failed_at=now if faults else None,
            expires_at=now + WINDOW_S,
            request_counts=Counts(total=total),
            metadata=body.metadata,
        )
        record = Record(batch=batch, output=new_file_id(), errors=new_file_id(), owner=owner)
        save(self.store, record)
        if not faults:
            self._enqueue(record)
        return batch

    def get(self, batch_id: str, owner: str | None) -> Batch:
        """As it is now. Raises NotFoundError, also for a batch of another owner."""
        record = self._open.get(batch_id) or load(self.store, batch_id)
        if record.owner != owner:
            raise no_batch(batch_id)
        return record.batch

    def all(self, owner: str | None) -> list[Batch]:
        """This owner's, newest first."""
        records = [record for record in load_all(self.store) if record.owner == owner]
        return [self.get(record.batch.id, owner) for record in records]

    def cancel(self, batch_id: str, owner: str | None) -> Batch:
        """Lines that are open are ended; what was answered stays. Raises NotNowError if it ended."""
        batch = self.get(batch_id, owner)
        if batch_id not in self._open:
            raise NotNowError(
                f"the batch is {batch.status}; only one in progress can be cancelled",
                param="batch_id",
            )
        if batch.status == "in_progress":
            batch.status, batch.cancelling_at = "cancelling", int(time.time())
            save(self.store, self._open[batch_id])
        return batch

    def _enqueue(self, record: Record) -> None:
        self._open[record.batch.id] = record
        self._waiting.put_nowait(record.batch.id)

    async def _run(self, answer: AnswerLine) -> None:
        while True:
            record = self._open[await self._waiting.get()]
            try:
                await self._work_through(record, answer)
            except Exception as error:  # such as a full disk, or an input that was deleted
                _, body = describe(error, record.batch.id)
                self._end(record, "failed", body["error"])

    async def _work_through(self, record: Record, answer: AnswerLine) -> None:
        batch = record.batch
        done = await anyio.to_thread.run_sync(answered, self.store, record)
        running: set[asyncio.Task[None]] = set()
        try:
            for _, line in read_lines(self.store.path(batch.input_file_id), self._max_line):
                asked = await anyio.to_thread.run_sync(parse_line, line, self._max_line)
                if asked.custom_id in done:
                    continue
                while len(running) >= AT_ONCE and not self._stopped(batch):
                    running = await _some_ended(running)
                if self._stopped(batch):
                    break
                one = self._answer_line(record, asked.custom_id, asked.url, asked.body, answer)
                running.add(asyncio.create_task(one))
                await asyncio.sleep(0)
            while running and not self._stopped(batch):
                running = await _some_ended(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        ends: dict[str, Status] = {"cancelling": "cancelled", "in_progress": "completed"}
        all_done = batch.request_counts.completed + batch.request_counts.failed
        late = batch.status == "in_progress" and all_done < batch.request_counts.total
        self._end(record, "expired" if late else ends[batch.status])

    @staticmethod
    def _stopped(batch: Batch) -> bool:
        return batch.status == "cancelling" or time.time() > batch.expires_at

    async def _answer_line(
        self, record: Record, custom_id: str, url: str, body: Mapping[str, Any], answer: AnswerLine
    ) -> None:
        """Asks until there is room, and writes what came."""
        request_id = f"req_{uuid4().hex}"
        while True:
            try:
                status, found = 200, await answer(url, body)
            except OverloadedError:
                await asyncio.sleep(RETRY_S)
                continue
            except Exception as error:
                status, found = describe(error, request_id)
            break
        line = {
            "id": f"batch_req_{uuid4().hex}",
            "custom_id": custom_id,
            "response": {"status_code": status, "request_id": request_id, "body": found},
            "error": None,
        }
        append(self.store, record, custom_id, line)

    def _end(self, record: Record, status: Status, fault: Mapping[str, Any] | None = None) -> None:
        """Makes the answers visible, then says that the batch has ended."""
        batch, now = record.batch, int(time.time())
        batch.finalizing_at = now
        for key, content, name in (
            ("output_file_id", record.output, "output"),
            ("error_file_id", record.errors, "error"),
        ):
            if self.store.path(content).exists():
                filename = f"{batch.id}_{name}.jsonl"
                file = self.store.describe(content, filename, "batch_output", record.owner)
                setattr(batch, key, file.id)
        if fault is not None:
            batch.errors = BatchErrors.model_validate({"data": [{**fault, "line": None}]})
        batch.status = status
        setattr(batch, f"{status}_at", now)
        save(self.store, record)
        del self._open[batch.id]


async def _some_ended(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Those that still run, after at most a moment. Raises what one of the others raised."""
    ended, rest = await asyncio.wait(running, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
    return rest
