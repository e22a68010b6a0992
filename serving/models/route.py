"""``GET /v1/models`` and ``GET /v1/models/{id}``: one server, one model."""

import time

from fastapi import APIRouter

from serving.errors import ModelNotFoundError
from serving.gateway import Gateway
from serving.models.wire import ModelCard, ModelList, ModelSteering


def model_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()
    pipeline = gateway.pipeline
    card = ModelCard(
        id=pipeline.name,
        created=int(time.time()),
        steering=ModelSteering(fingerprint=pipeline.fingerprint, n_features=pipeline.n_features),
    )

    @router.get("/v1/models")
    async def list_models() -> ModelList:
        """All models of this server."""
        return ModelList(data=[card])

    @router.get("/v1/models/{name:path}")
    async def get_model(name: str) -> ModelCard:
        """One model by its id."""
        if name != card.id:
            raise ModelNotFoundError(
                f"no model {name[:80]!r} here; this server has {card.id!r}", param="model"
            )
        return card

    return router
