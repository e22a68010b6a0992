"""``POST /v1/explain``: HTTP only."""

from collections.abc import Generator

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from serving.data_uri import read_image
from serving.explain.wire import ExplainRequest
from serving.gateway import Gateway, body_schema
from vlm.explain.explain import Explanation, explain_in_steps


def explain_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.post(
        "/v1/explain",
        response_model=None,
        responses={200: {"model": Explanation}},
        openapi_extra=body_schema(ExplainRequest),
    )
    async def explain(http: Request) -> JSONResponse:
        """A photograph as features and words, its likeness to a text, the causes of a word."""
        asked, image = await gateway.read(
            http,
            ExplainRequest,
            lambda body: (
                body,
                read_image(body.image, param="image", limits=gateway.limits.image),
            ),
        )
        steps = explain_in_steps(
            gateway.pipeline, image, text=asked.text, word=asked.word, top=asked.top
        )
        found = None
        # A word takes seconds; a call for each step lets others have the pipeline in between.
        while found is None:
            if await http.is_disconnected():
                raise ClientDisconnect
            found = await gateway.worker.call(lambda _: _advance(steps))
        return JSONResponse(found.to_json())

    return router


def _advance(steps: Generator[str, None, Explanation]) -> Explanation | None:
    """One step, on the worker's thread; None until the last."""
    try:
        next(steps)
    except StopIteration as end:
        found: Explanation = end.value
        return found
    return None
