"""``GET /health``: 200 while requests can be answered, 503 once they cannot."""

from fastapi import APIRouter
from starlette.responses import JSONResponse

from serving.gateway import Gateway


def health_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> JSONResponse:
        """Whether the model's thread and its engine are alive, and how much waits."""
        alive = gateway.worker.alive and gateway.engine.alive
        body = {
            "status": "ok" if alive else "down",
            "model": gateway.pipeline.name,
            "fingerprint": gateway.pipeline.fingerprint,
            "engine": gateway.engine.name,
            "open_requests": gateway.engine.n_open,
        }
        return JSONResponse(body, 200 if alive else 503)

    return router
