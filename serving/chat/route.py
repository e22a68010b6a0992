"""``POST /v1/chat/completions``: HTTP only."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.answer_stream import AnswerStream
from serving.chat.answer_wire import ChatCompletion
from serving.chat.complete import answer_all, checked
from serving.chat.reply import Reply
from serving.chat.streams import Item, Streams
from serving.chat.wire import ChatRequest
from serving.chat.work import choices, read_chat
from serving.errors import describe, request_id
from serving.gateway import Gateway, body_schema
from vlm.pipeline import Answer
from vlm.pipeline import Request as Asked


def chat_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.post(
        "/v1/chat/completions",
        response_model=None,
        responses={
            200: {
                "model": ChatCompletion,
                "description": "The answer; with `stream`, ChatChunk events.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        },
        openapi_extra=body_schema(ChatRequest),
    )
    async def chat_completions(http: Request) -> Response:
        """Answers a chat about photographs, with their codes edited as `steering` says."""
        body, request = await gateway.read(
            http,
            ChatRequest,
            lambda body: (body, read_chat(body, gateway.pipeline, gateway.limits)),
        )
        reply = Reply.of(gateway.pipeline, body)
        requests = choices(body, request)
        if not body.stream:
            return JSONResponse(reply.completion(await answer_all(gateway, requests)))
        streams = _streams(gateway, requests)
        items = aiter(streams)
        try:
            # A refusal shows at the first item: still in time for a proper status.
            first = await anext(items)
        except BaseException:
            streams.cancel()
            raise
        checks = [partial(checked, gateway, one) for one in requests]
        events = _events(first, items, reply, checks, request_id(http))
        return EventStream(events, streams)

    return router


class EventStream(StreamingResponse):
    """Server-sent events; when they end, or the client leaves, so does the work behind them."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], stream: Streams) -> None:
        # Proxies would otherwise hold the pieces back until there are many.
        super().__init__(events, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.cancel()


def _streams(gateway: Gateway, requests: Sequence[Asked]) -> Streams:
    """A stream an answer; none is left open where one of them is refused."""
    streams: list[AnswerStream] = []
    try:
        for request in requests:
            streams.append(gateway.engine.stream(request))
    except BaseException:
        Streams(streams).cancel()
        raise
    return Streams(streams)


async def _events(
    first: Item,
    rest: AsyncIterator[Item],
    reply: Reply,
    checks: Sequence[Callable[[Answer], Answer]],
    id_for_log: str,
) -> AsyncIterator[str]:
    """One stream of all answers, each looked at once more by its check before it ends."""
    n = len(checks)
    for i in range(n):
        yield reply.opening(i)
    answers: dict[int, Answer] = {}
    i, item = first
    try:
        while True:
            if isinstance(item, Answer):
                answers[i] = checks[i](item)
                yield reply.end(i, answers[i], last=len(answers) == n)
            else:
                yield reply.piece(i, item)
            if len(answers) == n:
                break
            i, item = await anext(rest)
    except Exception as error:
        # The status is long sent; OpenAI's clients raise on an event that holds an error.
        _, body = describe(error, id_for_log)
        yield f"data: {json.dumps(body)}\n\n"
        return
    for event in reply.ending(list(answers.values())):
        yield event
