"""``POST /v1/features/activations`` and ``GET /v1/features``: HTTP only."""

from typing import Any

from fastapi import APIRouter, Request

from serving.data_uri import read_image
from serving.features.wire import Activations, ActivationsRequest, FeatureList
from serving.features.work import find_features, image_activations
from serving.gateway import Gateway, body_schema
from sparse_encoder.errors import SparsightError

MAX_FOUND = 100


def feature_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.post(
        "/v1/features/activations",
        response_model=Activations,
        response_model_exclude_unset=True,
        openapi_extra=body_schema(ActivationsRequest),
    )
    async def activations(http: Request) -> Activations:
        """The strongest features of one image, by name, with where they are active."""
        asked, image = await gateway.read(
            http, ActivationsRequest, lambda body: (body, read_image(body.image, param="image"))
        )
        return await gateway.worker.call(lambda pipeline: image_activations(pipeline, image, asked))

    @router.get(
        "/v1/features",
        openapi_extra={"parameters": [_text_parameter("query"), _text_parameter("limit")]},
    )
    async def features(http: Request) -> FeatureList:
        """Features whose names hold `query` (all, without one); at most `limit`, by default 20."""
        given = dict(http.query_params)
        for key in given:
            if key not in ("query", "limit"):
                raise SparsightError(
                    f"unknown parameter {key[:80]}; expected query or limit",
                    param=key[:80],
                    code="unknown_parameter",
                )
        limit = given.get("limit", "20")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_FOUND):
            raise SparsightError(
                f"limit is {limit[:20]!r}, expected a whole number from 1 to {MAX_FOUND}",
                param="limit",
            )
        return find_features(gateway.pipeline, given.get("query", ""), int(limit))

    return router


def _text_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
