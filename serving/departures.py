"""Ends the work of a request whose client has left, or whose time is up.

Work that goes on for nobody takes its place from those who wait. Everything behind this layer is
told by cancellation: the worker's jobs, streams and fetches all stop on it.
"""

import asyncio
import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import DeadlineError, HttpError
from serving.limits import Limits

logger = logging.getLogger(__name__)

# A stream tells its client that time is up; one that is not read is cut so much later.
CUT_AFTER_S = 5.0


class SlowBodyError(HttpError):
    status = 408
    code = "body_timeout"
    headers = {"connection": "close"}


class Departures:
    """ASGI layer around all that answers."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await _Watched(self.app, self._limits).run(scope, receive, send)


class _Watched:
    """One request."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._gone = asyncio.Event()
        self._read = False  # the whole body
        self._started = False  # the answer
        self._watch: asyncio.Task[None] | None = None

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        cut = began + self._limits.deadline_s + CUT_AFTER_S

        async def watch(clock: asyncio.Timeout) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._gone.set()
            if not self._started:  # a response that has begun listens for itself
                clock.reschedule(loop.time())

        async def receive_watched() -> Message:
            if self._read:
                await self._gone.wait()
                return {"type": "http.disconnect"}
            try:
                async with asyncio.timeout_at(began + self._limits.body_s):
                    message = await receive()
            except TimeoutError:
                raise SlowBodyError(
                    f"the body was not here after {self._limits.body_s} s; send it faster"
                ) from None
            if message["type"] == "http.disconnect":
                self._gone.set()
            if self._gone.is_set() or not message.get("more_body", False):
                self._read = True
                if not self._gone.is_set():
                    self._watch = asyncio.create_task(watch(clock))
            return message

        async def send_watched(message: Message) -> None:
            self._started = True
            await send(message)

        try:
            async with asyncio.timeout_at(cut) as clock:
                await self._app(scope, receive_watched, send_watched)
        except TimeoutError:
            if not clock.expired():
                raise
            if self._gone.is_set():
                raise ClientDisconnect from None
            if not self._started:
                raise DeadlineError.of(self._limits.deadline_s) from None
            logger.warning("cut an answer that was not read within its time")
        finally:
            if self._watch is not None:
                self._watch.cancel()
