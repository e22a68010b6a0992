"""Wire types of ``GET /v1/models``."""

from typing import Literal

from pydantic import BaseModel


class ModelSteering(BaseModel):
    """Ours: what a client needs to know before it writes edits."""

    fingerprint: str  # sha256 over config and parts; receipts and recipes carry it
    n_features: int


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int  # seconds since 1970: when this server started
    owned_by: str = "sparsight"
    steering: ModelSteering


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
