"""``GET /v1/models`` and ``GET /v1/models/{id}``: one server, one model."""

import time
from importlib.util import find_spec

from fastapi import APIRouter

from serving.chat.wire import MAX_CHOICES
from serving.errors import ModelNotFoundError
from serving.gateway import Gateway
from serving.models.wire import Capabilities, ModelCard, ModelList, ModelSteering

OPENAI_ROUTES = ("/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/files", "/v1/batches")


def model_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()
    pipeline = gateway.pipeline
    card = ModelCard(
        id=pipeline.name,
        created=int(time.time()),
        steering=ModelSteering(fingerprint=pipeline.fingerprint, n_features=pipeline.n_features),
        capabilities=_capabilities(gateway),
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


def _capabilities(gateway: Gateway) -> Capabilities:
    return Capabilities(
        endpoints=[*OPENAI_ROUTES],
        logprobs=True,
        json_schema=find_spec("llguidance") is not None,
        max_images=gateway.limits.max_images,
        max_tokens=gateway.limits.max_tokens,
        max_choices=MAX_CHOICES,
        context=gateway.pipeline.context,
        embedding_size=gateway.pipeline.n_features,
    )
