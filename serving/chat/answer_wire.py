"""Wire types of answers to chats: OpenAI's names, and ours under ``steering``."""

from typing import Any, Literal

from pydantic import BaseModel, model_serializer


class Steering(BaseModel):
    """Ours, in the answer."""

    receipt: dict[str, Any]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A token that was likely at a place."""

    token: str
    logprob: float  # nats, by the model's own logits: before temperature, penalties and guides
    bytes: list[int]  # of the token; a part of a character, at times


class Logprob(TopLogprob):
    """A token of the answer, and the likeliest at its place, likeliest first."""

    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    """Of each token of the text, the end mark left out."""

    content: list[Logprob]
    refusal: None = None


class AnswerMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: int = 0
    message: AnswerMessage
    logprobs: Logprobs | None = None
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
    logprobs: Logprobs | None = None
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
