"""The engine that keeps codes, edits and soft tokens here and has vLLM run the language model."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from serving.answer_stream import AnswerStream
from serving.batching import Worker
from serving.engines.chat_body import chat_body, streaming
from serving.engines.pool import Pool
from serving.engines.soft_token_check import check_soft_tokens
from serving.engines.vllm_answer import StreamedAnswer, read_answer
from serving.engines.vllm_http import VllmHttp
from serving.engines.vllm_logprobs import Spelled
from serving.errors import OverloadedError
from serving.limits import Limits
from vlm.answer_text import AnswerText
from vlm.decoding import check_room
from vlm.pipeline import Answer, Pipeline, Request, Sampling, SoftPrompt
from vlm.template import chat_images, end_of_turn

T = TypeVar("T")


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
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def alive(self) -> bool:
        return self._pool.any_up and not self._closing

    @property
    def n_open(self) -> int:
        return self._n_open

    async def answer(self, request: Request) -> Answer:
        """The answer. Raises SparsightError; once vLLM has the request, cancelling aborts it."""
        with self._place():
            task = self._started(self._answered(request))
            try:
                return await task  # which is cancelled with us
            except asyncio.CancelledError:
                us = asyncio.current_task()
                if us is not None and us.cancelling():
                    raise
                raise OverloadedError.closing() from None

    def stream(self, request: Request) -> AnswerStream:
        """A stream that has to be read or cancelled; its reader gets what refuses it."""
        out = AnswerStream(self._limits.deadline_s, on_cancel=lambda: task.cancel())
        task = self._started(self._write(request, out))
        return out

    def refuse(self) -> None:
        self._closing = True
        with self._lock:
            tasks = tuple(self._tasks)
        for task in tasks:
            with contextlib.suppress(RuntimeError):  # its loop has ended, and it too
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def aclose(self) -> None:
        self.refuse()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()
        self._pool.close()
        if self._on_close is not None:
            self._on_close()

    async def _answered(self, request: Request) -> Answer:
        asked, body, spelled = await self._prepared(request)
        return read_answer(await self._http.post(body, _digests(request)), asked, spelled)

    async def _write(self, request: Request, out: AnswerStream) -> None:
        try:
            with self._place():
                asked, body, spelled = await self._prepared(request)
                answer = StreamedAnswer(asked, spelled)
                async for event in self._http.events(streaming(body), _digests(request)):
                    if _tells(piece := answer.add(event)):
                        out.put(piece)
                whole = answer.whole()
                if _tells(piece := answer.rest()):
                    out.put(piece)
            # The place is free before the client knows: it may send its next request at once.
            out.put(whole)
        except asyncio.CancelledError:
            out.put(OverloadedError.closing())  # where its reader has left: for nobody
            raise
        except Exception as error:
            out.put(error)

    def _started(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that `refuse` ends."""
        task = asyncio.get_running_loop().create_task(work)
        with self._lock:
            self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        with self._lock:
            self._tasks.discard(task)

    async def _prepared(
        self, request: Request
    ) -> tuple[SoftPrompt, dict[str, Any], Spelled | None]:
        return await self._worker.call(
            lambda pipeline: (
                *prepare(pipeline, request, self._pool.model),
                _spelled(pipeline, request.sampling),
            )
        )

    @contextmanager
    def _place(self) -> Iterator[None]:
        with self._lock:
            if self._closing:
                raise OverloadedError.closing()
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


def prepare(pipeline: Pipeline, request: Request, model: str) -> tuple[SoftPrompt, dict[str, Any]]:
    """What is asked and the body that asks it, its soft tokens checked. On the worker's thread."""
    asked = pipeline.soft_prompt(request)
    check_room(pipeline.model, asked.n_tokens, request.sampling)
    check_soft_tokens(asked.soft, int(pipeline.model.config.hidden_size))
    return asked, chat_body(request.messages, asked.soft, request.sampling, model)


def _spelled(pipeline: Pipeline, sampling: Sampling) -> Spelled | None:
    if sampling.top_logprobs is None:
        return None
    tokenizer = pipeline.tokenizer
    text = AnswerText(tokenizer, end_of_turn(tokenizer), sampling.stop)
    return Spelled(text, sampling.top_logprobs)


def _tells(piece: str) -> bool:
    """Whether a piece has text, or tokens whose text was cut off."""
    return bool(piece or getattr(piece, "logprobs", ()))


def _digests(request: Request) -> str:
    return ",".join(image.sha256 for image in chat_images(request.messages))
