"""The folder that files and batches lie in: a content and a JSON of what it is, each written whole.

    files/file-<id>        files/file-<id>.json        batches/batch_<id>.json

A file belongs to the name of the API key that left it, and to nobody where the server had no keys;
whoever else asks is told that there is none. One server has the folder at a time. Ids are made here, and only such are looked up: no name that a
client sends becomes a path.
"""

import json
import re
import time
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from uuid import uuid4

import anyio
from filelock import FileLock, Timeout

from serving.errors import BodyTooLargeError, HttpError, NotFoundError
from serving.files.wire import FileObject, Purpose
from sparse_encoder.errors import SparsightError
from sparse_encoder.whole_file import write_whole

FILE_ID = re.compile(r"file-[0-9a-f]{32}")
MAX_FILE = 512 * 2**20  # bytes of one file
MAX_STORED = 16 * 2**30  # bytes of all files together


class FullError(HttpError):
    status = 507
    code = "storage_full"


class FileStore:
    """Files under `folder`, which is made where it is not there."""

    def __init__(
        self, folder: Path, *, max_file: int = MAX_FILE, max_stored: int = MAX_STORED
    ) -> None:
        """Raises SparsightError where the folder cannot be written, or is another server's."""
        self.max_file = max_file
        self._max_stored = max_stored
        self._files = folder / "files"
        self.batches = folder / "batches"
        try:
            for one in (self._files, self.batches):
                one.mkdir(parents=True, exist_ok=True)
            # It is released on the thread of the event loop, which may be another.
            self._lock = FileLock(folder / ".lock", thread_local=False)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise SparsightError(
                f"another server uses {folder}; give each its own --files", param="files"
            ) from None
        except OSError as error:
            raise SparsightError(
                f"cannot keep files in {folder}: {error.strerror or error}", param="files"
            ) from None

    def close(self) -> None:
        """Leaves the folder to the next server."""
        self._lock.release()

    async def receive(
        self, content: AsyncIterable[bytes], filename: str, owner: str | None
    ) -> FileObject:
        """Keeps what a client sends. Raises BodyTooLargeError and FullError; keeps nothing then."""
        file_id = new_file_id()
        path = self.path(file_id)
        room = self._max_stored - self._stored()
        n = 0
        try:
            async with await anyio.open_file(path, "wb") as out:
                async for chunk in content:
                    n += len(chunk)
                    if n > self.max_file:
                        raise BodyTooLargeError(
                            f"the file is larger than {self.max_file:,} bytes; send it in parts",
                            param="file",
                        )
                    if n > room:
                        raise FullError(
                            f"files here may have {self._max_stored:,} bytes together; delete "
                            "some that you no longer need",
                            param="file",
                        )
                    await out.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return self.describe(file_id, filename, "batch", owner)

    def describe(
        self, file_id: str, filename: str, purpose: Purpose, owner: str | None
    ) -> FileObject:
        """Makes a content that lies under its path a file that its owner can see."""
        found = FileObject(
            id=file_id,
            bytes=self.path(file_id).stat().st_size,
            created_at=int(time.time()),
            filename=filename,
            purpose=purpose,
        )
        known = {**found.model_dump(), "owner": owner}
        write_whole(self._json(file_id), json.dumps(known).encode())
        return found

    def get(self, file_id: str, owner: str | None, param: str = "file_id") -> FileObject:
        """Raises NotFoundError for an id that no file of this owner has."""
        found = self._found(file_id, owner)
        if found is None:
            raise NotFoundError(f"no file {file_id[:80]!r} here", param=param)
        return found

    def all(self, owner: str | None) -> list[FileObject]:
        """This owner's, newest first."""
        asked = (self._found(path.stem, owner) for path in self._files.glob("file-*.json"))
        found = [file for file in asked if file is not None]
        return sorted(found, key=lambda file: (file.created_at, file.id), reverse=True)

    def delete(self, file_id: str, owner: str | None) -> None:
        """Raises NotFoundError."""
        self.get(file_id, owner)
        self._json(file_id).unlink(missing_ok=True)
        self.path(file_id).unlink(missing_ok=True)

    def path(self, file_id: str) -> Path:
        """Where the content of an id of ours lies."""
        return self._files / file_id

    def forget_all_but(self, known: Iterable[str]) -> None:
        """Deletes contents that no file and no running batch has: uploads that broke off."""
        keep = set(known)
        for path in self._files.iterdir():
            if path.suffix == "" and path.name not in keep and not self._json(path.name).exists():
                path.unlink(missing_ok=True)

    def _found(self, file_id: str, owner: str | None) -> FileObject | None:
        if not FILE_ID.fullmatch(file_id):
            return None
        try:
            known = json.loads(self._json(file_id).read_bytes())
            return FileObject.model_validate(known) if known.pop("owner", None) == owner else None
        except (FileNotFoundError, ValueError, AttributeError):  # a ValidationError is a ValueError
            return None

    def _json(self, file_id: str) -> Path:
        return self._files / f"{file_id}.json"

    def _stored(self) -> int:
        return sum(path.stat().st_size for path in self._files.iterdir())


def new_file_id() -> str:
    return f"file-{uuid4().hex}"
