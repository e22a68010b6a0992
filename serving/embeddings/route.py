"""``POST /v1/embeddings``: HTTP only."""

from fastapi import APIRouter, Request

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
        body, inputs = await gateway.read(
            http,
            EmbeddingRequest,
            lambda body: (body, read_inputs(body, gateway.pipeline, gateway.limits)),
        )
        return await gateway.worker.call(lambda pipeline: embeddings(pipeline, inputs, body))

    return router
