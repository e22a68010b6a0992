"""From wire to pipeline: no HTTP here, and no model."""

import json
from dataclasses import replace

from serving.chat.wire import ANY_OBJECT, ChatMessage, ChatRequest, ResponseFormat
from serving.data_uri import read_image
from serving.errors import ModelNotFoundError
from serving.limits import Limits
from serving.steering_body import read_steering
from sparse_encoder.errors import SparsightError
from vlm.pipeline import ImagePart, Message, Pipeline, Request, Sampling, TextPart

MAX_SCHEMA = 20_000  # characters


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


def choices(body: ChatRequest, request: Request) -> list[Request]:
    """The `n` requests of one body; with a seed, each draws by one of its own."""
    seed = request.sampling.seed
    seeds = [None if seed is None else seed + i for i in range(body.n)]
    return [replace(request, sampling=replace(request.sampling, seed=one)) for one in seeds]


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
        top_logprobs=_top_logprobs(body),
        json_schema=_json_schema(body.response_format),
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=tuple((_token(key), value) for key, value in body.logit_bias.items()),
    )


def _top_logprobs(body: ChatRequest) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise SparsightError(
            "top_logprobs needs logprobs to be true; set it, or leave top_logprobs out",
            param="top_logprobs",
        )
    return (body.top_logprobs or 0) if body.logprobs else None


def _json_schema(asked: ResponseFormat) -> str | None:
    if asked.type == "text":
        return None
    schema = ANY_OBJECT if asked.type == "json_object" else asked.json_schema.schema_
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA:
        raise SparsightError(
            f"the JSON schema has {len(text):,} characters, at most {MAX_SCHEMA:,} are allowed",
            param="response_format.json_schema.schema",
        )
    return text


def _token(key: str) -> int:
    if not key.isascii() or not key.isdecimal() or len(key) > 18:
        raise SparsightError(
            f'logit_bias has the key {key[:40]!r}; expected token ids, such as "11"',
            param="logit_bias",
        )
    return int(key)


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
