"""Wire types of chat completions: OpenAI's names and order, then ours under ``steering``.

Each default says what a missing field means. Two differ from OpenAI's: an answer is greedy and
short unless asked otherwise, since captions are.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from serving.chat.fields import IGNORED, REFUSED
from serving.wire import Wire

INT64 = 2**63
MAX_CHOICES = 8
ANY_OBJECT: dict[str, Any] = {"type": "object"}


class TextContent(Wire):
    type: Literal["text"]
    text: str


class ImageUrl(Wire):
    url: str = Field(description="data:image/...;base64,...")
    detail: Literal["auto", "low", "high"] = Field(
        "auto", description="Any means the same: the trunk has one resolution."
    )


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


class JsonSchema(Wire):
    """OpenAI's; an answer is held to the schema, `strict` or not."""

    name: str = Field(max_length=64)
    description: str | None = None
    schema_: dict[str, Any] = Field(ANY_OBJECT, alias="schema", description="JSON schema.")
    strict: bool = True


class FreeText(Wire):
    type: Literal["text"]


class AnyJson(Wire):
    type: Literal["json_object"]


class SchemaJson(Wire):
    type: Literal["json_schema"]
    json_schema: JsonSchema


def _format_tag(asked: Any) -> str | None:
    kind = asked.get("type") if isinstance(asked, dict) else getattr(asked, "type", None)
    return f"<{kind}>" if kind in ("text", "json_object", "json_schema") else None


ResponseFormat = Annotated[
    Annotated[FreeText, Tag("<text>")]
    | Annotated[AnyJson, Tag("<json_object>")]
    | Annotated[SchemaJson, Tag("<json_schema>")],
    Discriminator(
        _format_tag,
        custom_error_type="format_type",
        custom_error_message="expected type 'text', 'json_object' or 'json_schema'",
    ),
]


class ChatRequest(Wire):
    """The body of ``POST /v1/chat/completions``."""

    ignored: ClassVar = IGNORED
    unsupported: ClassVar = {key: value for key, (value, _) in REFUSED.items()}
    reasons: ClassVar = {key: reason for key, (_, reason) in REFUSED.items()}

    messages: list[ChatMessage] = Field(min_length=1, description="Ends with a user's turn.")
    model: str = Field(description="As GET /v1/models names it.")
    max_completion_tokens: int | None = Field(None, ge=1, description="Missing: 64.")
    max_tokens: int | None = Field(None, ge=1, description="Older name of the same.")
    frequency_penalty: float = Field(
        0.0, ge=-2, le=2, description="Taken off a token's logit each time it was said."
    )
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="The same, once.")
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(
        {}, max_length=300, description="Token id to what is added to its logit."
    )
    logprobs: bool = Field(False, description="Also the log-probability of each token, nats.")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="With logprobs: the likeliest at each place, so many."
    )
    n: int = Field(1, ge=1, le=MAX_CHOICES, description="How many answers.")
    response_format: ResponseFormat = Field(
        FreeText(type="text"), description="text, json_object or json_schema."
    )
    seed: int | None = Field(
        None, ge=-INT64, lt=INT64, description="Same seed, same sample. Missing: a fresh one."
    )
    stop: Stop = Field([], description="Up to 4 texts that end the answer, left out of it.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = Field(0.0, ge=0, le=2, description="0, also when missing: greedy.")
    top_p: float = Field(1.0, gt=0, le=1)
    # Checked by serving.steering_body; vlm.edits is the one reader of edits for all sides.
    steering: Any = Field(
        None,
        description='{"edits": [...], "recipe": {...}, "resolve_again": bool, "steer_from": {...}, '
        '"receipt": bool}; receipt is true with edits.',
    )
