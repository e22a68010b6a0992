"""Wire types of ``POST /v1/embeddings``: OpenAI's names, photographs, and ``sparse``."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

from serving.chat.wire import ImageContent
from serving.wire import Wire

MAX_INPUTS = 256


def _as_list(given: Any) -> Any:
    return given if isinstance(given, list) else [given]


def _input_tag(given: Any) -> str | None:
    if isinstance(given, str):
        return "<string>"
    return "<image>" if isinstance(given, dict | ImageContent) else None


Input = Annotated[
    Annotated[str, Field(min_length=1), Tag("<string>")] | Annotated[ImageContent, Tag("<image>")],
    Discriminator(
        _input_tag,
        custom_error_type="input_type",
        custom_error_message="expected a string or a part of type 'image_url'; lists of token ids "
        "are another model's (LangChain: check_embedding_ctx_length=False)",
    ),
]


class EmbeddingRequest(Wire):
    """The body of ``POST /v1/embeddings``."""

    ignored: ClassVar = frozenset({"user"})
    unsupported: ClassVar = {"dimensions": None}
    reasons: ClassVar = {
        "dimensions": "each place of an embedding is a feature with a meaning, so none can be left "
        "out; ask for sparse where it is too long"
    }

    input: Annotated[
        list[Input],
        BeforeValidator(_as_list, json_schema_input_type=Input | list[Input]),
        Field(min_length=1, max_length=MAX_INPUTS),
    ] = Field(description="Texts and photographs; a data URI, or an image_url part, is the latter.")
    model: str = Field(description="As GET /v1/models names it.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="Of dense embeddings; base64 is of little-endian float32."
    )
    sparse: bool = Field(False, description="Ours: indices and values in place of all places.")


class SparseEmbedding(BaseModel):
    """All places that are not 0, in rising order."""

    indices: list[int]
    values: list[float]


class Embedding(BaseModel):
    """L2 norm 1, non-negative; as many places as the model has features."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str | SparseEmbedding


class EmbeddingUsage(BaseModel):
    """Tokens of the texts; a photograph counts none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    system_fingerprint: str  # ours: embeddings of two models cannot be compared
