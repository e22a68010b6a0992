"""The lines of a batch's input: each one request, told apart by its ``custom_id``."""

from collections.abc import Iterator
from pathlib import Path

from serving.batches.wire import BatchError, BatchLine
from serving.body import read_object
from serving.wire import parse_wire
from sparse_encoder.errors import SparsightError

MAX_LINES = 50_000
MAX_FAULTS = 20  # that are listed


def read_lines(path: Path, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of each line that is not blank; one line is held at a time.

    A line above `max_bytes` is given cut, one byte too long: it is refused, not read.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(max_bytes + 1):
            number += 1
            whole = line
            while len(line) > max_bytes and not line.endswith(b"\n"):
                line = file.readline(max_bytes + 1)  # the rest of a line that is too long
                if not line:
                    break
            if whole.strip():
                yield number, whole


def parse_line(line: bytes, max_bytes: int) -> BatchLine:
    """Raises SparsightError for what is no request line."""
    if len(line) > max_bytes:
        raise SparsightError(
            f"the line is longer than {max_bytes:,} bytes; send smaller photographs",
            code="body_too_large",
        )
    return parse_wire(BatchLine, read_object(line))


def check_lines(path: Path, endpoint: str, max_bytes: int) -> tuple[int, list[BatchError]]:
    """How many requests there are, and the first faults that keep the batch from starting."""
    seen: set[str] = set()
    faults: list[BatchError] = []
    number = None
    for number, line in read_lines(path, max_bytes):
        try:
            if len(seen) == MAX_LINES:
                raise SparsightError(
                    f"a batch has at most {MAX_LINES:,} lines", code="too_many_lines"
                )
            asked = parse_line(line, max_bytes)
            if asked.url != endpoint:
                raise SparsightError(
                    f"url is {asked.url}, the batch's endpoint is {endpoint}", param="url"
                )
            if asked.custom_id in seen:
                raise SparsightError(
                    f"custom_id {asked.custom_id[:80]!r} comes twice", param="custom_id"
                )
            seen.add(asked.custom_id)
        except SparsightError as error:
            faults.append(
                BatchError(code=error.code, message=error.message, param=error.param, line=number)
            )
            if len(faults) == MAX_FAULTS or error.code == "too_many_lines":
                break
    if number is None:
        faults.append(
            BatchError(code="empty_file", message="the file has no line", param=None, line=None)
        )
    return len(seen), faults
