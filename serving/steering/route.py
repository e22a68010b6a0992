"""``POST /v1/steering/sweep``: HTTP only."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from serving.engines.together import answer_together
from serving.gateway import Gateway, body_schema
from serving.steering.wire import SweepRequest, SweepResult
from serving.steering.work import judged, planned, read_sweep


def steering_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.post(
        "/v1/steering/sweep",
        response_model=None,
        responses={200: {"model": SweepResult}},
        openapi_extra=body_schema(SweepRequest),
    )
    async def sweep(http: Request) -> JSONResponse:
        """One photograph with one concept clamped at several doses, answered as one batch."""
        asked, image = await gateway.read(
            http,
            SweepRequest,
            lambda body: (body, read_sweep(body, gateway.pipeline.name, gateway.limits)),
        )
        plan = await gateway.worker.call(lambda pipeline: planned(pipeline, image, asked))
        answers = await answer_together(gateway.engine, gateway.worker, plan.requests)
        found = await gateway.worker.call(
            lambda pipeline: judged(pipeline, plan, answers, asked.plot)
        )
        return JSONResponse(found.model_dump())

    return router
