"""A batch as it lies on disk: what clients see, and where its answers go.

Answers are appended line by line to two files that become visible when the batch has ended. After
a crash the last line may be torn; it is cut off, and the requests without an answer are asked anew.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from serving.batches.wire import Batch, Counts
from serving.errors import NotFoundError
from serving.files.store import FileStore
from sparse_encoder.whole_file import write_whole

BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")


class Record(BaseModel):
    """`batch`, the ids of the contents that grow, and the name of the API key that made it."""

    batch: Batch
    output: str
    errors: str
    owner: str | None = None


def save(store: FileStore, record: Record) -> None:
    """Whole or not at all."""
    write_whole(_path(store, record.batch.id), record.model_dump_json().encode())


def load(store: FileStore, batch_id: str) -> Record:
    """Raises NotFoundError for an id that no batch has."""
    if BATCH_ID.fullmatch(batch_id):
        try:
            return Record.model_validate_json(_path(store, batch_id).read_bytes())
        except (FileNotFoundError, ValidationError):
            pass
    raise no_batch(batch_id)


def no_batch(batch_id: str) -> NotFoundError:
    return NotFoundError(f"no batch {batch_id[:80]!r} here", param="batch_id")


def load_all(store: FileStore) -> list[Record]:
    """Newest first."""
    found = [load(store, path.stem) for path in store.batches.glob("batch_*.json")]
    return sorted(found, key=lambda one: (one.batch.created_at, one.batch.id), reverse=True)


def answered(store: FileStore, record: Record) -> set[str]:
    """The custom ids that have an answer, after torn lines were cut off; counts them, too."""
    done = set(_mended(store.path(record.output)))
    failed = set(_mended(store.path(record.errors)))
    total = record.batch.request_counts.total
    record.batch.request_counts = Counts(total=total, completed=len(done), failed=len(failed))
    return done | failed


def append(store: FileStore, record: Record, custom_id: str, line: dict[str, Any]) -> None:
    """Writes one answer and counts it; it is there once this returns, whatever happens next."""
    counts = record.batch.request_counts
    good = line["response"]["status_code"] == 200
    with store.path(record.output if good else record.errors).open("ab") as out:
        out.write(json.dumps(line).encode() + b"\n")
    counts.completed += good
    counts.failed += not good


def _mended(path: Path) -> Iterator[str]:
    """The custom ids of a file's whole lines; what follows the last of them is cut off."""
    if not path.exists():
        return
    end = 0
    with path.open("r+b") as file:
        for line in file:
            try:
                custom_id = json.loads(line)["custom_id"] if line.endswith(b"\n") else None
            except (ValueError, KeyError, TypeError):
                custom_id = None
            if custom_id is None:
                break
            end += len(line)
            yield custom_id
        file.seek(end)
        file.truncate()
        os.fsync(file.fileno())


def _path(store: FileStore, batch_id: str) -> Path:
    return store.batches / f"{batch_id}.json"
