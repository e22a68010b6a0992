"""``POST /v1/chat/completions``: HTTP only."""

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.chat.wire import ChatCompletion, ChatRequest
from serving.chat.work import Reply, read_chat
from serving.engines.engine import AnswerStream
from serving.errors import describe, request_id
from serving.gateway import Gateway, body_schema
from vlm.pipeline import Answer


def chat_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    @router.post(
        "/v1/chat/completions",
        response_model=None,
        responses={200: {"model": ChatCompletion}},
        openapi_extra=body_schema(ChatRequest),
    )
    async def chat_completions(http: Request) -> Response:
        """Answers a chat about photographs, with their codes edited as `steering` says."""
        body, request = await gateway.read(
            http,
            ChatRequest,
            lambda body: (body, read_chat(body, gateway.pipeline, gateway.limits)),
        )
        reply = Reply.of(gateway.pipeline)
        if not body.stream:
            return JSONResponse(reply.completion(await gateway.engine.answer(request)))
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        stream = gateway.engine.stream(request)
        items = aiter(stream)
        try:
            # A refusal shows at the first item: still in time for a proper status.
            first = await anext(items)
        except BaseException:
            stream.cancel()
            raise
        events = _events(first, items, reply, with_usage, request_id(http))
        return EventStream(events, stream)

    return router


class EventStream(StreamingResponse):
    """Server-sent events; when they end, or the client leaves, so does the work behind them."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], stream: AnswerStream) -> None:
        # Proxies would otherwise hold the pieces back until there are many.
        super().__init__(events, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.cancel()


async def _events(
    first: str | Answer,
    rest: AsyncIterator[str | Answer],
    reply: Reply,
    with_usage: bool,
    id_for_log: str,
) -> AsyncIterator[str]:
    yield reply.opening(with_usage)
    item = first
    try:
        while isinstance(item, str):
            yield reply.piece(item, with_usage)
            item = await anext(rest)
    except Exception as error:
        # The status is long sent; OpenAI's clients raise on an event that holds an error.
        _, body = describe(error, id_for_log)
        yield f"data: {json.dumps(body)}\n\n"
        return
    for event in reply.ending(item, with_usage):
        yield event
