"""``/v1/files``: HTTP only."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse

from serving.access import key_name
from serving.errors import NotFoundError
from serving.files.store import FileStore
from serving.files.upload import receive_upload
from serving.files.wire import FileDeleted, FileList, FileObject
from serving.gateway import Gateway
from serving.page import read_page
from sparse_encoder.errors import SparsightError

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"enum": ["batch"]},
                    },
                }
            }
        },
    }
}


def file_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.post("/v1/files", openapi_extra=_FORM)
    async def create_file(http: Request) -> FileObject:
        """Keeps a file of requests for a batch."""
        return await receive_upload(http, store_of(gateway))

    @router.get("/v1/files")
    async def list_files(http: Request) -> FileList:
        """All files of this key, newest first."""
        page = read_page(http.query_params, also=("purpose", "order"))
        found = store_of(gateway).all(key_name(http))
        purpose = http.query_params.get("purpose")
        found = [file for file in found if purpose in (None, file.purpose)]
        order = http.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise SparsightError(f"order is {order[:40]!r}, expected asc or desc", param="order")
        if order == "asc":
            found.reverse()
        data, more = page.of(found)
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, first_id=ends[0], last_id=ends[1], has_more=more)

    @router.get("/v1/files/{file_id}")
    async def get_file(http: Request, file_id: str) -> FileObject:
        """One file's name and size."""
        return store_of(gateway).get(file_id, key_name(http))

    @router.delete("/v1/files/{file_id}")
    async def delete_file(http: Request, file_id: str) -> FileDeleted:
        """Deletes a file; a batch that reads it fails where it is."""
        store_of(gateway).delete(file_id, key_name(http))
        return FileDeleted(id=file_id)

    @router.get("/v1/files/{file_id}/content", response_class=FileResponse)
    async def get_content(http: Request, file_id: str) -> FileResponse:
        """What is in a file."""
        store = store_of(gateway)
        store.get(file_id, key_name(http))
        return FileResponse(store.path(file_id), media_type="application/jsonl")

    return router


def store_of(gateway: Gateway) -> FileStore:
    """Raises NotFoundError where the server keeps no files."""
    if gateway.files is None:
        raise NotFoundError(
            "this server keeps no files, and so has no batches; start it with --files FOLDER"
        )
    return gateway.files
