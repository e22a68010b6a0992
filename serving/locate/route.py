"""``POST /v1/features/locate``: HTTP only."""

import anyio
from fastapi import APIRouter, Request

from serving.gateway import Gateway, body_schema
from serving.locate.wire import Located, LocateRequest
from serving.locate.work import answer, find_cells, read_locate


def locate_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.post("/v1/features/locate", openapi_extra=body_schema(LocateRequest))
    async def locate(http: Request) -> Located:
        """Where in a photograph a feature, or a concept's features, are active."""
        asked = await gateway.read(
            http, LocateRequest, lambda body: read_locate(body, gateway.limits.image)
        )
        found = await gateway.worker.call(lambda pipeline: find_cells(pipeline, asked))
        # Drawing needs no turn on the model's thread.
        return await anyio.to_thread.run_sync(
            lambda: answer(gateway.pipeline, asked, found), limiter=gateway.readers
        )

    return router
