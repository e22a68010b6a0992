"""A file in a ``multipart/form-data`` body, read as it comes and never held whole."""

from collections.abc import AsyncGenerator, AsyncIterator

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.access import key_name
from serving.errors import BodyTooLargeError, MediaTypeError
from serving.files.store import FileStore
from serving.files.wire import FileObject
from sparse_encoder.errors import SparsightError

CHUNK = 2**20
FORM_BYTES = 2**16  # of the form around the file


async def receive_upload(request: Request, store: FileStore) -> FileObject:
    """Keeps the form's `file`, whose `purpose` is batch. Raises SparsightError for another form."""
    form = await _form(request, store.max_file)
    try:
        for key in form:
            if key not in ("file", "purpose"):
                raise SparsightError(
                    f"unknown parameter {key[:80]!r}; a file takes file and purpose", param=key[:80]
                )
        purpose, file = form.get("purpose"), form.get("file")
        if purpose != "batch":
            given = "missing" if purpose is None else repr(str(purpose)[:40])
            raise SparsightError(
                f"purpose is {given}, expected 'batch': files here are for batches", param="purpose"
            )
        if not isinstance(file, UploadFile):
            raise SparsightError("the form has no file; add one under `file`", param="file")
        name = (file.filename or "file")[:200]
        return await store.receive(_chunks(file), name, key_name(request))
    finally:
        await form.close()


async def _form(request: Request, max_file: int) -> FormData:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise MediaTypeError(
            f"content-type is {kind or 'missing'!r}, expected 'multipart/form-data'; "
            "with curl: -F purpose=batch -F file=@requests.jsonl"
        )
    stream = _counted(request, max_file + FORM_BYTES)
    try:
        parser = MultiPartParser(request.headers, stream, max_files=1, max_fields=8)
        return await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError):
        raise SparsightError("the body is no form with one file", code="invalid_form") from None


async def _counted(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    n = 0
    async for chunk in request.stream():
        n += len(chunk)
        if n > most:
            raise BodyTooLargeError(
                f"the body is larger than {most:,} bytes; send the file in parts", param="file"
            )
        yield chunk


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK):
        yield chunk
