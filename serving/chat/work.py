"""From wire to pipeline and back: no HTTP here, and no model.

Chunks of a stream: the role, the text piece by piece, the reason it ended; then, where asked for,
the token counts in a chunk without choices. The receipt is in the last of them.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from serving.chat.wire import (
    AnswerMessage,
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    Choice,
    ChunkChoice,
    Delta,
    Steering,
    Usage,
)
from serving.data_uri import read_image
from serving.errors import ModelNotFoundError
from serving.limits import Limits
from serving.steering_body import read_steering
from sparse_encoder.errors import SparsightError
from vlm.pipeline import Answer, ImagePart, Message, Pipeline, Request, Sampling, TextPart


def read_chat(body: ChatRequest, pipeline: Pipeline, limits: Limits) -> Request:
    """The pipeline's request, photographs decoded. Raises SparsightError for what it refuses."""
    if body.model != pipeline.name:
        raise ModelNotFoundError(
            f"no model {body.model[:80]!r} here; this server has {pipeline.name!r}", param="model"
        )
    if body.stream_options is not None and not body.stream:
        raise SparsightError(
            "stream_options needs stream to be true; leave it out or stream",
            param="stream_options",
        )
    n_images = _check_messages(body.messages, limits)
    asked = read_steering(
        body.steering,
        n_images=n_images,
        n_features=pipeline.n_features,
        fingerprint=pipeline.fingerprint,
        image=limits.image,
    )
    return Request(
        messages=tuple(
            _read_message(message, f"messages[{i}]", limits)
            for i, message in enumerate(body.messages)
        ),
        edits=asked.edits,
        sampling=_sampling(body, limits),
        want_receipt=asked.changes if asked.receipt is None else asked.receipt,
        recipe=asked.recipe,
        resolve_again=asked.resolve_again,
        steer_from=asked.steer_from,
    )


def _sampling(body: ChatRequest, limits: Limits) -> Sampling:
    asked = {
        key: value
        for key in ("max_completion_tokens", "max_tokens")
        if (value := getattr(body, key)) is not None
    }
    if len(set(asked.values())) > 1:
        raise SparsightError(
            f"max_tokens is {body.max_tokens}, max_completion_tokens {body.max_completion_tokens}: "
            "they mean the same; give one of them",
            param="max_tokens",
        )
    for key, value in asked.items():
        if value > limits.max_tokens:
            raise SparsightError(
                f"{key} is {value}, at most {limits.max_tokens} are allowed", param=key
            )
    return Sampling(
        max_tokens=next(iter(asked.values()), Sampling().max_tokens),
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        stop=tuple(body.stop),
    )


def _check_messages(messages: list[ChatMessage], limits: Limits) -> int:
    """How many photographs there are. Raises SparsightError for an order that no chat has."""
    if len(messages) > limits.max_messages:
        raise SparsightError(
            f"{len(messages)} messages, at most {limits.max_messages} are allowed",
            param="messages",
        )
    n_images = n_characters = 0
    for i, message in enumerate(messages):
        if message.role in ("system", "developer") and i > 0:
            raise SparsightError(
                f"messages[{i}] is a {message.role} message; only the first may be one",
                param=f"messages[{i}].role",
            )
        for j, part in enumerate(message.parts):
            if part.type == "text":
                n_characters += len(part.text)
            elif message.role == "user":
                n_images += 1
            else:
                raise SparsightError(
                    f"messages[{i}].content[{j}] is a photograph in a {message.role} message; "
                    "only user messages may hold them",
                    param=f"messages[{i}].content[{j}]",
                )
    if messages[-1].role != "user":
        raise SparsightError(
            f"the last message is the {messages[-1].role}'s; end with a user message to answer",
            param=f"messages[{len(messages) - 1}].role",
        )
    for n, limit, what in (
        (n_images, limits.max_images, "photographs"),
        (n_characters, limits.max_text, "characters of text"),
    ):
        if n > limit:
            raise SparsightError(
                f"the messages hold {n:,} {what}, at most {limit:,} are allowed", param="messages"
            )
    return n_images


def _read_message(message: ChatMessage, param: str, limits: Limits) -> Message:
    parts = tuple(
        TextPart(part.text)
        if part.type == "text"
        else ImagePart(
            read_image(
                part.image_url.url,
                param=f"{param}.content[{j}].image_url.url",
                limits=limits.image,
                remote=limits.remote,
            )
        )
        for j, part in enumerate(message.parts)
    )
    return Message("system" if message.role == "developer" else message.role, parts)


@dataclass(frozen=True)
class Reply:
    """Puts one request's answer into wire form, under one id and time."""

    model: str
    fingerprint: str
    id: str
    created: int  # seconds since 1970

    @classmethod
    def of(cls, pipeline: Pipeline) -> "Reply":
        return cls(pipeline.name, pipeline.fingerprint, f"chatcmpl-{uuid4().hex}", int(time.time()))

    def completion(self, answer: Answer) -> dict[str, Any]:
        """The JSON of a whole answer."""
        message = AnswerMessage(content=answer.text)
        whole = ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=[Choice(message=message, finish_reason=answer.finish_reason)],
            usage=_usage(answer),
            system_fingerprint=self.fingerprint,
            steering=_steering(answer),
        )
        return whole.model_dump(exclude={"steering"} if whole.steering is None else None)

    def opening(self, with_usage: bool) -> str:
        """The first event."""
        return self._event([ChunkChoice(delta=Delta(role="assistant", content=""))], with_usage)

    def piece(self, text: str, with_usage: bool) -> str:
        """An event with the next piece of the text."""
        return self._event([ChunkChoice(delta=Delta(content=text))], with_usage)

    def ending(self, answer: Answer, with_usage: bool) -> Iterator[str]:
        """The last events, the end mark included."""
        end = [ChunkChoice(delta=Delta(), finish_reason=answer.finish_reason)]
        receipt = _steering(answer)
        if with_usage:
            yield self._event(end, with_usage)
            yield self._event([], with_usage, usage=_usage(answer), steering=receipt)
        else:
            yield self._event(end, with_usage, steering=receipt)
        yield "data: [DONE]\n\n"

    def _event(
        self,
        choices: list[ChunkChoice],
        with_usage: bool,
        *,
        usage: Usage | None = None,
        steering: Steering | None = None,
    ) -> str:
        chunk = ChatChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=usage,
            system_fingerprint=self.fingerprint,
            steering=steering,
        )
        # OpenAI's streams have a usage of null in every chunk but the last, if it was asked for.
        absent = {key for key in ("usage", "steering") if getattr(chunk, key) is None}
        data = chunk.model_dump_json(exclude=absent - {"usage"} if with_usage else absent)
        return f"data: {data}\n\n"


def _usage(answer: Answer) -> Usage:
    prompt, completion = answer.n_prompt_tokens, answer.n_completion_tokens
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


def _steering(answer: Answer) -> Steering | None:
    return None if answer.receipt is None else Steering(receipt=answer.receipt.to_json())
