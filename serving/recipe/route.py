"""``POST /v1/steering/recipe``: HTTP only."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from serving.data_uri import read_image
from serving.gateway import Gateway, body_schema
from serving.recipe.wire import RecipeRequest
from serving.steering_body import SteeringBody, read_steering
from sparse_encoder.errors import SparsightError
from sparse_encoder.image import DecodedImage
from vlm.make_recipe import Maker
from vlm.pipeline import Pipeline


def recipe_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()
    pipeline = gateway.pipeline

    def read(body: RecipeRequest) -> tuple[RecipeRequest, SteeringBody, DecodedImage | None]:
        asked = read_steering(
            body.steering,
            n_images=1,
            n_features=pipeline.n_features,
            fingerprint=pipeline.fingerprint,
            image=gateway.limits.image,
        )
        if not asked.changes:
            raise SparsightError(
                "steering has no edit, no recipe and no photograph to take features from: there is "
                "nothing to write down",
                param="steering",
            )
        photo = None
        if body.image is not None:
            photo = read_image(body.image, param="image", limits=gateway.limits.image)
        return body, asked, photo

    @router.post(
        "/v1/steering/recipe", response_model=None, openapi_extra=body_schema(RecipeRequest)
    )
    async def recipe(http: Request) -> JSONResponse:
        """A recipe of the edits, each tried on the model; the answer is the file's content."""
        body, asked, photo = await gateway.read(http, RecipeRequest, read)
        return JSONResponse(await gateway.worker.call(lambda p: _made(p, body, asked, photo)))

    return router


def _made(
    pipeline: Pipeline, body: RecipeRequest, asked: SteeringBody, photo: DecodedImage | None
) -> dict[str, Any]:
    maker = Maker(
        pipeline.atlas, pipeline.encoder.encode_texts, lambda image: pipeline.encode([image])
    )
    found = maker.resolved(
        photo=photo,
        edits=asked.edits,
        recipe=asked.recipe,
        resolve_again=asked.resolve_again,
        steer_from=asked.steer_from,
    )
    return maker.recipe(body.name, body.description, found).to_json()
