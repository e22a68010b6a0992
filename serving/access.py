"""Who may ask, and how much: API keys, and each key's rate and number of requests at once."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import HttpError
from serving.keys import Key, KeyRing
from serving.limits import Limits
from sparse_encoder.errors import SparsightError

OPEN_PATHS = frozenset(["/health", "/ready", "/metrics"])
"""What probes and Prometheus ask without a key; none of it shows what anybody sent."""

KEY_NAME = "sparsight.key"  # in an ASGI scope: the name of the key that it came with


def key_name(request: HTTPConnection) -> str | None:
    """The name of the key that a request came with; None where the server asks for none."""
    name: str | None = request.scope.get(KEY_NAME)
    return name


class KeyRefusedError(HttpError):
    status = 401
    code = "invalid_api_key"
    headers = {"www-authenticate": "Bearer"}


class KeysUnreadableError(HttpError):
    """The file of keys is broken: nobody is let in, and whoever runs the server is told."""

    status = 503
    code = "keys_unreadable"
    headers = {"retry-after": "10"}


class RateLimitError(HttpError):
    """Too many requests of one key; `retry_s` is when the next may come."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.headers = {"retry-after": str(max(1, math.ceil(retry_s)))}


@dataclass
class _Use:
    """What one key has used: a bucket of requests that fills evenly, and those that are open."""

    tokens: float
    seen: float  # seconds, of the clock
    n_open: int = 0


class Access:
    """ASGI layer that lets requests with a key in, as far as the key's limits go."""

    def __init__(
        self,
        app: ASGIApp,
        ring: KeyRing,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self._ring = ring
        self._limits = limits
        self._clock = clock
        self._uses: dict[str, _Use] = {}  # by name; as many as there are keys in the file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no route of ours is one, so no key could be checked
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        key = self._key(Headers(scope=scope))
        scope[KEY_NAME] = key.name
        use = self._take(key)
        use.n_open += 1
        try:
            await self.app(scope, receive, send)
        finally:
            use.n_open -= 1

    def _key(self, headers: Headers) -> Key:
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise KeyRefusedError(
                "this server needs an API key; send the header 'Authorization: Bearer KEY'"
            )
        try:
            key = self._ring.find(secret.strip())
        except SparsightError as error:
            # The reason names a path of this machine: it is for the log, not for clients.
            raise KeysUnreadableError(
                "the server cannot read its keys; whoever runs it has to repair their file"
            ) from error
        if key is None:
            raise KeyRefusedError("this API key is not known here, or was removed; use another")
        return key

    def _take(self, key: Key) -> _Use:
        """Counts one more request of this key, or raises RateLimitError."""
        per_minute = key.per_minute or self._limits.key_per_minute
        most_open = key.open or self._limits.key_open
        now = self._clock()
        use = self._uses.setdefault(key.name, _Use(per_minute, now))
        use.tokens = min(per_minute, use.tokens + (now - use.seen) * per_minute / 60)
        use.seen = now
        if use.n_open >= most_open:
            raise RateLimitError(
                f"{use.n_open} requests of key {key.name} are open, at most {most_open} may be; "
                "wait for one of them",
                1,
            )
        if use.tokens < 1:
            raise RateLimitError(
                f"key {key.name} has asked {per_minute} times in the last minute, which is as "
                "often as it may; retry-after says when to go on",
                (1 - use.tokens) * 60 / per_minute,
            )
        use.tokens -= 1
        return use
