"""Wire types of ``/v1/batches``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from serving.wire import Wire

Endpoint = Literal["/v1/chat/completions", "/v1/embeddings"]
Status = Literal["failed", "in_progress", "cancelling", "cancelled", "completed", "expired"]
Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class BatchRequest(Wire):
    """The body of ``POST /v1/batches``."""

    input_file_id: str = Field(description="A file of purpose batch: one request a line.")
    endpoint: Endpoint = Field(description="Where each line goes.")
    completion_window: Literal["24h"] = Field(description="When the rest is given up.")
    metadata: Metadata = Field({}, max_length=16, description="Kept with the batch.")


class BatchLine(Wire):
    """One line of the input: OpenAI's."""

    custom_id: str = Field(min_length=1, max_length=256)
    method: Literal["POST"]
    url: Endpoint
    body: dict[str, Any]


class BatchError(BaseModel):
    code: str | None
    message: str
    param: str | None
    line: int | None  # from 1


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class Counts(BaseModel):
    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(BaseModel):
    """Times are seconds since 1970, null where that has not come."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: Endpoint
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: Status
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = Counts()
    metadata: dict[str, str] = {}


class BatchList(BaseModel):
    """Newest first."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool
