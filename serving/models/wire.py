"""Wire types of ``GET /v1/models``."""

from typing import Literal

from pydantic import BaseModel


class ModelSteering(BaseModel):
    """Ours: what a client needs to know before it writes edits."""

    fingerprint: str  # sha256 over config and parts; receipts and recipes carry it
    n_features: int


class Capabilities(BaseModel):
    """Ours: what this server does with the model, so that clients need not try."""

    endpoints: list[str]  # paths of OpenAI's API that are served
    input: list[str] = ["text", "image"]
    output: list[str] = ["text"]
    streaming: bool = True
    logprobs: bool
    json_schema: bool  # whether response_format is there
    tools: bool = False
    max_images: int  # in one request
    max_tokens: int  # of one answer
    max_choices: int  # n
    context: int  # tokens of a prompt and its answer
    embedding_size: int  # places of a dense embedding


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int  # seconds since 1970: when this server started
    owned_by: str = "sparsight"
    steering: ModelSteering
    capabilities: Capabilities


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
