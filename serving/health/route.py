"""``GET /health``, ``/ready`` and ``/metrics``: what probes, balancers and Prometheus ask.

Health is about the process: where it says no, only a new one helps. Readiness is about now: where it
says no, requests are better sent elsewhere for a while.
"""

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from serving.gateway import Gateway
from serving.metrics import CONTENT_TYPE


def health_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    def unready() -> str | None:
        """Why a request would not be answered now; None where it would."""
        worker, limits = gateway.worker, gateway.limits
        if not worker.alive:
            return "shutting down"
        if not gateway.engine.alive:
            return "engine down"
        if max(worker.n_open, gateway.engine.n_open) >= limits.max_open:
            return "full"
        return "stuck" if worker.busy_s > limits.deadline_s else None

    @router.get("/health")
    async def health() -> JSONResponse:
        """Whether the model's thread is alive, what the engine does, and how much waits.

        An engine that is away comes back to this process: a new one would only wait for it anew.
        """
        alive = gateway.worker.alive
        up = "ok" if gateway.engine.alive else "engine down"
        body = {
            "status": up if alive else "down",
            "model": gateway.pipeline.name,
            "fingerprint": gateway.pipeline.fingerprint,
            "engine": gateway.engine.name,
            "open_requests": gateway.engine.n_open,
        }
        return JSONResponse(body, 200 if alive else 503)

    @router.get("/ready")
    async def ready() -> JSONResponse:
        """Whether a request would be taken on now, and why not."""
        why = unready()
        return JSONResponse({"ready": why is None, "reason": why}, 503 if why else 200)

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        """Prometheus's text format."""
        gateway.metrics.open_requests.set(gateway.engine.n_open)
        gateway.metrics.ready.set(unready() is None)
        return Response(gateway.metrics.text(), media_type=CONTENT_TYPE)

    return router
