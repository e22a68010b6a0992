"""Chat completions sent to one of the pool's vLLM servers.

Only a failed connection is tried again, elsewhere, with the very same body: nothing was begun. Once
a request may have been read, whatever goes wrong is the answer. A body is made once, with its soft
tokens in it, and no way leads from here to one without.

vLLM's own words about a fault may quote the request, so they are logged at level debug alone.
"""

import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from serving.engines.faults import (
    EngineBusyError,
    EngineFailedError,
    EngineRefusedError,
    broke_off,
    no_answer,
)
from serving.engines.pool import Pool

logger = logging.getLogger(__name__)

PATH = "/v1/chat/completions"
CONNECT_S = 3.0  # a server on the same machine or network answers in milliseconds
SILENCE_S = 300.0  # without a byte: no batch of ours takes that long for one token
ERROR_TYPE = re.compile(r"[A-Za-z_ ]{1,40}")  # vLLM's are BadRequestError, Internal Server Error


class VllmHttp:
    """Belongs to the event loop that first uses it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._client: httpx.AsyncClient | None = None

    async def post(self, body: dict[str, Any], images: str) -> dict[str, Any]:
        """The JSON of a whole answer. Raises an HttpError in our own words."""
        async with self._sent(body, images) as response:
            try:
                content = await response.aread()
            except httpx.HTTPError as error:
                logger.warning("vLLM broke off: %r", error)
                raise broke_off() from None
            return _object(content)

    async def events(self, body: dict[str, Any], images: str) -> AsyncIterator[dict[str, Any]]:
        """The JSON of each streamed event, up to the end mark; a stream without one is a fault."""
        async with self._sent(body, images) as response:
            try:
                async for line in response.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    event = _object(data)
                    if "error" in event:
                        logger.warning("vLLM ended a stream: %s", _error_type(event))
                        logger.debug("vLLM ended a stream: %.500s", data)
                        raise broke_off()
                    yield event
            except httpx.HTTPError as error:
                logger.warning("vLLM broke off: %r", error)
                raise broke_off() from None
        raise broke_off()

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    @asynccontextmanager
    async def _sent(self, body: dict[str, Any], images: str) -> AsyncIterator[httpx.Response]:
        """The response of the first server that could be connected to, its status a success."""
        content = json.dumps(body).encode()
        tried: set[str] = set()
        while True:
            with self._pool.lent(images, tried) as replica:
                request = self._http().build_request("POST", replica.url + PATH, content=content)
                try:
                    response = await self._http().send(request, stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    self._pool.take_out(replica, f"cannot be connected to ({error})")
                    tried.add(replica.url)
                    continue
                except httpx.HTTPError as error:
                    logger.warning("vLLM at %s broke off: %r", replica.url, error)
                    raise broke_off() from None
                try:
                    if response.status_code != 200:
                        raise await _refusal(response)
                    yield response
                finally:
                    await response.aclose()
                return

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                headers={"content-type": "application/json", **self._pool.headers},
                timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
                trust_env=False,
            )
        return self._client


async def _refusal(response: httpx.Response) -> Exception:
    """What a status that is no success means for the client."""
    try:
        said = (await response.aread()).decode("utf-8", "replace")
    except httpx.HTTPError:
        said = ""
    status = response.status_code
    logger.warning("vLLM answered %d: %s", status, _error_type(said))
    logger.debug("vLLM answered %d: %.2000s", status, said)
    if status in (429, 503):
        return EngineBusyError(
            "the language model's engine takes no more requests at the moment; send it again later"
        )
    if status in (400, 422):
        return EngineRefusedError(
            "the language model's engine does not take this request; the server's log has its "
            "reason at level debug. Leave out what is unusual in it, such as a schema or several "
            "stop texts"
        )
    if status in (401, 403, 404):
        return EngineFailedError(
            "the language model's engine does not know this gateway or its model; the server's "
            "log has the details at level debug"
        )
    return broke_off()


def _error_type(said: str | dict[str, Any]) -> str:
    """The kind of error that vLLM names, where it reads like one: a body may be anything."""
    try:
        read = json.loads(said) if isinstance(said, str) else said
    except (ValueError, RecursionError):
        read = None
    error = read.get("error", read) if isinstance(read, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    if isinstance(kind, str) and ERROR_TYPE.fullmatch(kind):
        return kind
    return "an error of no known type"


def _object(content: bytes | str) -> dict[str, Any]:
    try:
        read = json.loads(content)
    except (ValueError, RecursionError):
        raise no_answer("it is not JSON") from None
    if not isinstance(read, dict):
        raise no_answer("it is not a JSON object")
    return read
