"""``POST /v1/embeddings``: HTTP only."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from serving.body import read_body, read_object
from serving.embeddings.wire import EmbeddingList, EmbeddingRequest
from serving.embeddings.work import embeddings, read_inputs
from serving.gateway import Gateway, body_schema


def embedding_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.post(
        "/v1/embeddings",
        response_model=EmbeddingList,
        openapi_extra=body_schema(EmbeddingRequest),
    )
    async def embed(http: Request) -> EmbeddingList:
        """The codes of texts and photographs, unit length; both sides share the features."""
        data = read_object(await read_body(http, gateway.limits.max_body_bytes))
        return await complete_embeddings(gateway, data)

    return router


async def complete_embeddings(gateway: Gateway, data: Mapping[str, Any]) -> EmbeddingList:
    """The embeddings of one body. Raises SparsightError."""
    body, inputs = await gateway.parsed(
        data,
        EmbeddingRequest,
        lambda body: (body, read_inputs(body, gateway.pipeline, gateway.limits)),
    )
    return await gateway.worker.call(lambda pipeline: embeddings(pipeline, inputs, body))
