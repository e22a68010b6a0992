"""A whole answer to a chat, from JSON to JSON: under the endpoint and under batches."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from serving.chat.reply import Reply
from serving.chat.wire import ChatRequest
from serving.chat.work import choices, read_chat
from serving.gateway import Gateway
from serving.steered_answer import check_steered
from sparse_encoder.errors import SparsightError
from vlm.pipeline import Answer, Request


async def complete_chat(gateway: Gateway, data: Mapping[str, Any]) -> dict[str, Any]:
    """The completion of one body. Raises SparsightError, also where it asks for a stream."""

    def read(body: ChatRequest) -> tuple[ChatRequest, Request]:
        if body.stream:
            raise SparsightError("a batch has no streams; leave stream out", param="stream")
        return body, read_chat(body, gateway.pipeline, gateway.limits)

    body, request = await gateway.parsed(data, ChatRequest, read)
    answers = await answer_all(gateway, choices(body, request))
    return Reply.of(gateway.pipeline, body).completion(answers)


async def answer_all(gateway: Gateway, requests: Sequence[Request]) -> list[Answer]:
    """All answers, each checked; where one fails, so do the rest."""
    tasks = [asyncio.ensure_future(gateway.engine.answer(request)) for request in requests]
    try:
        answers = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [checked(gateway, *pair) for pair in zip(requests, answers, strict=True)]


def checked(gateway: Gateway, request: Request, answer: Answer) -> Answer:
    """What may go out, without a receipt where none is wanted. Raises UnsteeredAnswerError."""
    check_steered(request, answer, gateway.pipeline.fingerprint)
    return answer if request.want_receipt else replace(answer, receipt=None)
