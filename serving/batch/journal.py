"""The JSON lines of a run, which are also its memory: what has a line is done.

A line is written in one piece and counts once its end is there; half a line, which only a killed
run leaves, is cut off at the next start. Each line carries its recipe, so that a file never mixes
results made in two ways. Files of the earlier caption log read as journals.
"""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from filelock import FileLock, Timeout

from serving.batch.plan import Plan, difference
from serving.batch.result import Result
from serving.batch.seen import Seen
from sparse_encoder.errors import SparsightError

START = b'{"path": '  # of every line that we write
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Journal:
    """Open for one run; a second run on the same file is refused.

    n_done: photographs with outputs. n_failed: those whose latest result is an error. Raises
    SparsightError where the file holds results of another recipe or something else altogether; it
    is then left as it was.
    """

    def __init__(self, path: Path | str, plan: Plan, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.n_done = self.n_failed = 0
        self._recipe = plan.to_json()
        self._seen = Seen()
        self._end = 0  # bytes of complete lines
        self._lock = FileLock(f"{self.path}.lock", timeout=0)
        try:
            self.path.parent.stat()  # or the lock would make a folder of a mistyped name
            self._lock.acquire()
            self._open(overwrite)
        except Timeout as error:
            raise SparsightError(
                f"another run writes to {self.path}; wait for it, or choose another file",
                param="out",
                code="output_in_use",
            ) from error
        except OSError as error:
            self._lock.release()
            raise SparsightError(
                f"{self.path} cannot be used for captions: {error.strerror or error}", param="out"
            ) from error
        except SparsightError:
            self._lock.release()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Everything is on the disk when this returns."""
        self._file.close()
        self._seen.close()
        self._lock.release()

    def claim(self, name: str, *, retry_failed: bool = True) -> bool:
        """Whether a photograph is still to be done; True only once in a run."""
        if not retry_failed and self._seen.has_failed(name):
            return False
        return self._seen.add(name)

    def find(self, sha256: str) -> Result | None:
        """The result of an earlier photograph with these bytes."""
        offset = self._seen.find_content(sha256)
        if offset is None:
            return None
        with self.path.open("rb") as file:
            file.seek(offset)
            return Result.from_json(json.loads(file.readline()))

    def append(self, result: Result) -> None:
        """The result is in the file when this returns.

        An error that the file has already for the same photograph is not repeated. Raises
        SparsightError where the disk is full; every line before is then whole.
        """
        if result.error is not None and self._seen.has_failed(result.path, result.error):
            return
        line = json.dumps({**result.to_json(), "recipe": self._recipe}).encode("ascii") + b"\n"
        try:
            self._write(line)
        except OSError as error:
            os.truncate(self.path, self._end)
            raise self._full(error) from error
        self._note(result, self._end)
        self._end += len(line)

    def sync(self) -> None:
        """Down to the disk, so that a power cut takes nothing that was written before."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:  # some file systems find out only now that they are full
            raise self._full(error) from error

    def good(self) -> Iterator[Result]:
        """All results with outputs, in the order of their lines; read anew from the file."""
        with self.path.open("rb") as file:
            while file.tell() < self._end:
                result = Result.from_json(json.loads(file.readline()))
                if result.error is None:
                    yield result

    def _open(self, overwrite: bool) -> None:
        if overwrite:
            self.path.write_bytes(b"")
        elif self.path.exists():
            self._read()
        # Unbuffered: a line that cannot be written fails at once and not at the close.
        self._file: BinaryIO = self.path.open("ab", buffering=0)

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _read(self) -> None:
        """Checks every line, then cuts off the last one where it has no end."""
        tail = b""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    self._take(line, number)
                    self._end += len(line)
                else:
                    tail = line
        if tail and not (tail.startswith(START) or START.startswith(tail)):
            raise self._foreign(f"its last line does not start with {START.decode()!r}")
        if tail:
            # Even if it reads as JSON, a line without its end may have lost digits.
            os.truncate(self.path, self._end)

    def _take(self, line: bytes, number: int) -> None:
        try:
            entry = json.loads(line)
            recipe = entry["recipe"]
            result = Result.from_json(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._foreign(f"line {number} is no caption") from None
        if recipe != self._recipe:
            raise SparsightError(
                f"{self.path}, line {number}, was made with another "
                f"{difference(recipe, self._recipe)}; choose another file, or --force to start "
                "this one anew",
                param="out",
                code="other_recipe",
            )
        self._note(result, self._end)
        if result.error is None:
            self._seen.add(result.path)

    def _note(self, result: Result, offset: int) -> None:
        if result.error is not None:
            self.n_failed += not self._seen.has_failed(result.path)
            self._seen.fail(result.path, result.error)
            return
        self.n_done += 1
        self.n_failed -= self._seen.succeed(result.path)
        if result.sha256 is not None and result.duplicate_of is None:
            self._seen.put_content(result.sha256, offset)

    def _full(self, error: OSError) -> Exception:
        """A full disk in words; any other error as it is."""
        if error.errno not in FULL:
            return error
        return SparsightError(
            f"{self.path} cannot grow ({error.strerror}): {self.n_done:,} results are safe in it; "
            "make room and run the same command again",
            param="out",
            code="disk_full",
        )

    def _foreign(self, why: str) -> SparsightError:
        return SparsightError(
            f"{self.path} is no file of captions: {why}; choose another, or --force to overwrite it",
            param="out",
            code="not_a_caption_log",
        )
