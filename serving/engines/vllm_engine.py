"""The engine that keeps codes, edits and soft tokens here and has vLLM run the language model."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serving.batching import Worker
from serving.engines.chat_body import chat_body, streaming
from serving.engines.pool import Pool
from serving.engines.soft_token_check import check_soft_tokens
from serving.engines.vllm_answer import StreamedAnswer, read_answer
from serving.engines.vllm_http import VllmHttp
from serving.errors import OverloadedError
from serving.limits import Limits
from vlm.decoding import check_room
from vlm.pipeline import Answer, Pipeline, Request, SoftPrompt
from vlm.template import chat_images


class VllmEngine:
    """Answers through `pool`, which it closes, and prepares on `worker`, which it does not.

    on_close: called last, off no thread in particular; ends a vLLM that was started for us.
    """

    name = "vllm"

    def __init__(
        self,
        worker: Worker,
        pool: Pool,
        limits: Limits,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._worker = worker
        self._pool = pool
        self._http = VllmHttp(pool)
        self._limits = limits
        self._on_close = on_close
        self._lock = threading.Lock()
        self._n_open = 0
        self._closing = False

    @property
    def alive(self) -> bool:
        return self._pool.any_up and not self._closing

    @property
    def n_open(self) -> int:
        return self._n_open

    async def answer(self, request: Request) -> Answer:
        """The answer. Raises SparsightError; once vLLM has the request, cancelling aborts it."""
        with self._place():
            asked, body = await self._prepared(request)
            return read_answer(await self._http.post(body, _digests(request)), asked)

    def stream(self, request: Request) -> "VllmStream":
        """A stream that has to be read or cancelled."""
        return VllmStream(self._pieces(request))

    async def aclose(self) -> None:
        self._closing = True
        await self._http.aclose()
        self._pool.close()
        if self._on_close is not None:
            self._on_close()

    async def _pieces(self, request: Request) -> AsyncIterator[str | Answer]:
        with self._place():
            asked, body = await self._prepared(request)
            answer = StreamedAnswer(asked)
            async for event in self._http.events(streaming(body), _digests(request)):
                if piece := answer.add(event):
                    yield piece
            yield answer.whole()

    async def _prepared(self, request: Request) -> tuple[SoftPrompt, dict[str, Any]]:
        return await self._worker.call(
            lambda pipeline: prepare(pipeline, request, self._pool.model)
        )

    @contextmanager
    def _place(self) -> Iterator[None]:
        with self._lock:
            if self._closing:
                raise OverloadedError("the server is shutting down; send the request again later")
            if self._n_open >= self._limits.max_open:
                raise OverloadedError(
                    f"{self._n_open} requests are waiting, at most {self._limits.max_open} may; "
                    "send the request again in a few seconds"
                )
            self._n_open += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_open -= 1


class VllmStream:
    """One streamed answer, read from vLLM by a task of its own; belongs to the running event loop.

    What a slow client has not taken yet waits here: an answer is at most `max_tokens` pieces.
    """

    def __init__(self, pieces: AsyncIterator[str | Answer]) -> None:
        self._items: asyncio.Queue[str | Answer | Exception] = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._pump(pieces))

    async def __aiter__(self) -> AsyncIterator[str | Answer]:
        """Each item as it comes. Raises what ended the stream early."""
        while True:
            item = await self._items.get()
            if isinstance(item, Exception):
                raise item
            yield item
            if isinstance(item, Answer):
                return

    def cancel(self) -> None:
        """Closes the connection to vLLM, which ends the generation. After the end: nothing."""
        self._task.cancel()

    async def _pump(self, pieces: AsyncIterator[str | Answer]) -> None:
        try:
            async for piece in pieces:
                self._items.put_nowait(piece)
        except Exception as error:
            self._items.put_nowait(error)


def prepare(pipeline: Pipeline, request: Request, model: str) -> tuple[SoftPrompt, dict[str, Any]]:
    """What is asked and the body that asks it, its soft tokens checked. On the worker's thread."""
    asked = pipeline.soft_prompt(request)
    check_room(pipeline.model, asked.n_tokens, request.sampling)
    check_soft_tokens(asked.soft, int(pipeline.model.config.hidden_size))
    return asked, chat_body(request.messages, asked.soft, request.sampling, model)


def _digests(request: Request) -> str:
    return ",".join(image.sha256 for image in chat_images(request.messages))
