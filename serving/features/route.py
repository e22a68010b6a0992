"""The feature endpoints: HTTP only."""

from typing import Any

from fastapi import APIRouter, Request

from serving.data_uri import read_image
from serving.features.wire import (
    Activations,
    ActivationsRequest,
    FeatureDetail,
    FeatureList,
    SparseCodes,
)
from serving.features.work import (
    feature_detail,
    feature_list,
    image_activations,
    image_codes,
    make_finder,
)
from serving.gateway import Gateway, body_schema
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_search.finder import MAX_PAGE
from sparse_encoder.image import DecodedImage

_KEYS = ("query", "limit", "cursor")


def feature_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()
    finder = make_finder(gateway.pipeline)
    most = gateway.limits.image

    def images_of(body: ActivationsRequest) -> tuple[ActivationsRequest, list[DecodedImage]]:
        _check_images(body, gateway.limits.max_images)
        if body.images is None:
            return body, [read_image(body.image or "", param="image", limits=most)]
        return body, [
            read_image(uri, param=f"images[{i}]", limits=most) for i, uri in enumerate(body.images)
        ]

    @router.post(
        "/v1/features/activations",
        response_model=Activations | SparseCodes,
        response_model_exclude_unset=True,
        openapi_extra=body_schema(ActivationsRequest),
    )
    async def activations(http: Request) -> Activations | SparseCodes:
        """The strongest features of one image by name, or the sparse codes of several."""
        asked, images = await gateway.read(http, ActivationsRequest, images_of)
        if asked.images is not None:
            return await gateway.worker.call(lambda pipeline: image_codes(pipeline, images, asked))
        return await gateway.worker.call(
            lambda pipeline: image_activations(pipeline, images[0], asked)
        )

    @router.get(
        "/v1/features", openapi_extra={"parameters": [_text_parameter(key) for key in _KEYS]}
    )
    async def features(http: Request) -> FeatureList:
        """Features that answer to `query` (all by index, without one), `limit` a page."""
        given = dict(http.query_params)
        for key in given:
            if key not in _KEYS:
                raise SparsightError(
                    f"unknown parameter {key[:80]}; expected {', '.join(_KEYS)}",
                    param=key[:80],
                    code="unknown_parameter",
                )
        query, limit, cursor = given.get("query"), _read_limit(given), given.get("cursor")
        if query is None:  # a list needs no text tower, and so no turn on the model's thread
            return feature_list(finder, finder.search(limit=limit, cursor=cursor))
        page = await gateway.worker.call(lambda _: finder.search(query, limit=limit, cursor=cursor))
        return feature_list(finder, page)

    @router.get("/v1/features/{feature}")
    async def feature(feature: str) -> FeatureDetail:
        """All that the atlas knows of one feature, and the features most like it."""
        return feature_detail(finder, feature, gateway.pipeline.top_images)

    return router


def _check_images(body: ActivationsRequest, most: int) -> None:
    if body.image is not None and body.images is not None:
        raise SparsightError("image and images are both given; keep one of them", param="images")
    if body.images is None:
        if body.image is None:
            raise SparsightError(
                "image is missing; give image, or images for the codes of several",
                param="image",
                code="missing_parameter",
            )
        return
    if not 1 <= len(body.images) <= most:
        raise SparsightError(
            f"images has {len(body.images)} entries, expected 1 to {most}",
            param="images",
            code="no_images" if not body.images else "too_many_images",
        )
    if body.cells:
        raise SparsightError(
            "cells goes with image; send the images one by one for their cells", param="cells"
        )


def _read_limit(given: dict[str, str]) -> int:
    limit = given.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_PAGE):
        raise SparsightError(
            f"limit is {limit[:20]!r}, expected a whole number from 1 to {MAX_PAGE}",
            param="limit",
        )
    return int(limit)


def _text_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
