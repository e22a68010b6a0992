"""Wire types of chat completions: OpenAI's names and order, then ours under ``steering``.

Each default says what a missing field means. Two differ from OpenAI's: an answer is greedy and
short unless asked otherwise, since captions are.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, model_serializer

from serving.wire import Wire

INT64 = 2**63


class TextContent(Wire):
    type: Literal["text"]
    text: str


class ImageUrl(Wire):
    url: str = Field(description="data:image/...;base64,...")
    # Every photograph is read at the trunk's one resolution; a wish for another cannot be met.
    detail: Literal["auto"] = "auto"


class ImageContent(Wire):
    type: Literal["image_url"]
    image_url: ImageUrl


def _part_tag(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return f"<{kind}>" if kind in ("text", "image_url") else None


def _content_tag(content: Any) -> str | None:
    if isinstance(content, str):
        return "<string>"
    return "<parts>" if isinstance(content, list) else None


Part = Annotated[
    Annotated[TextContent, Tag("<text>")] | Annotated[ImageContent, Tag("<image_url>")],
    Discriminator(
        _part_tag,
        custom_error_type="part_type",
        custom_error_message="a part of a message needs type 'text' or 'image_url'",
    ),
]
Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[Part], Field(min_length=1), Tag("<parts>")],
    Discriminator(
        _content_tag,
        custom_error_type="content_type",
        custom_error_message="expected a string or a list of parts",
    ),
]


class ChatMessage(Wire):
    """One turn. ``developer`` is read as ``system``; only ``user`` may hold photographs."""

    # What an answer of ours or of OpenAI's carries, so that it can be sent back as a turn.
    unsupported: ClassVar = {
        "name": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "tool_calls": [],
        "tool_call_id": None,
        "function_call": None,
    }

    role: Literal["developer", "system", "user", "assistant"]
    content: Content

    @property
    def parts(self) -> list[TextContent | ImageContent]:
        """The content as a list of parts, whichever way it was given."""
        if isinstance(self.content, str):
            return [TextContent(type="text", text=self.content)]
        return self.content


class StreamOptions(Wire):
    unsupported: ClassVar = {"include_obfuscation": False}

    include_usage: bool = Field(False, description="Token counts in a chunk of their own.")


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


Stop = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=100)]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(max_length=4),
]


class ChatRequest(Wire):
    """The body of ``POST /v1/chat/completions``."""

    unsupported: ClassVar = {
        "audio": None,
        "frequency_penalty": 0,
        "function_call": "none",
        "functions": [],
        "logit_bias": {},
        "logprobs": False,
        "metadata": {},
        "modalities": ["text"],
        "moderation": None,
        "parallel_tool_calls": True,
        "prediction": None,
        "presence_penalty": 0,
        "prompt_cache_key": None,
        "prompt_cache_options": None,
        "prompt_cache_retention": None,
        "reasoning_effort": "none",
        "response_format": {"type": "text"},
        "safety_identifier": None,
        "service_tier": "auto",
        "store": False,
        "tool_choice": "none",
        "tools": [],
        "top_logprobs": 0,
        "verbosity": None,
        "web_search_options": None,
    }

    messages: list[ChatMessage] = Field(min_length=1, description="Ends with a user's turn.")
    model: str = Field(description="As GET /v1/models names it.")
    max_completion_tokens: int | None = Field(None, ge=1, description="Missing: 64.")
    max_tokens: int | None = Field(None, ge=1, description="Older name of the same.")
    n: Literal[1] = Field(1, description="One answer a request.")
    seed: int | None = Field(
        None, ge=-INT64, lt=INT64, description="Same seed, same sample. Missing: a fresh one."
    )
    stop: Stop = Field([], description="Up to 4 texts that end the answer, left out of it.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = Field(0.0, ge=0, le=2, description="0, also when missing: greedy.")
    top_p: float = Field(1.0, gt=0, le=1)
    user: str | None = Field(None, description="Read and not used.")
    # Checked by serving.steering_body; vlm.edits is the one reader of edits for all sides.
    steering: Any = Field(
        None,
        description='{"edits": [...], "recipe": {...}, "resolve_again": bool, "steer_from": {...}, '
        '"receipt": bool}; receipt is true with edits.',
    )


class Steering(BaseModel):
    """Ours, in the answer."""

    receipt: dict[str, Any]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """The answer; ``steering`` is there where edits were made or a receipt was asked for."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str
    steering: Steering | None = None


class Delta(BaseModel):
    """What a chunk adds; OpenAI's leave out the keys that add nothing."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer
    def _only_what_is_set(self) -> dict[str, str]:
        both = {"role": self.role, "content": self.content}
        return {key: value for key, value in both.items() if value is not None}


class ChunkChoice(BaseModel):
    index: int = 0
    delta: Delta
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(BaseModel):
    """One event of a stream; ``steering`` comes in the last one."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str
    steering: Steering | None = None
