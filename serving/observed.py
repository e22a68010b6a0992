"""Outermost layer: one metric and one log line a request, and a span where tracing is set up.

A line has the request's id, route, status, seconds and the name of its key; never a body, a query,
a photograph or a key itself. `route` is our template, since a path is a client's text too.
"""

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import LEFT, REFUSAL
from serving.metrics import Metrics

logger = logging.getLogger("sparsight.requests")

METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH")


class Observed:
    """Around everything, so that it sees each answer as it goes out."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Any = None) -> None:
        self.app = app
        self._metrics = metrics
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        span: AbstractContextManager[Any] = nullcontext()
        if self._tracer is not None:
            span = self._tracer.start_as_current_span("request")
        with span as here:
            try:
                await self.app(scope, receive, send_seen)
            finally:
                seen = _seen(scope, status, time.perf_counter() - began)
                self._count(scope, seen)
                if here is not None:
                    here.update_name(f"{seen['method']} {seen['route']}")
                    for name, value in seen.items():
                        here.set_attribute(f"sparsight.{name}", value)

    def _count(self, scope: Scope, seen: dict[str, Any]) -> None:
        labels = seen["method"], seen["route"], str(seen["status"])
        self._metrics.requests.labels(*labels).inc()
        self._metrics.request_seconds.labels(seen["route"]).observe(seen["seconds"])
        if scope.get(LEFT):
            self._metrics.departures.inc()
        if reason := scope.get(REFUSAL):
            self._metrics.refusals.labels(reason).inc()
        logger.info("request", extra={"fields": seen})


def _seen(scope: Scope, status: int, seconds: float) -> dict[str, Any]:
    """What is known of a request; status 0 where no answer was begun."""
    method = scope["method"] if scope["method"] in METHODS else "other"
    # A page that is mounted beside the API has routes of its own, and file names in them.
    route = getattr(scope.get("route"), "path", None) or "other"
    seen = {
        "request_id": scope.get("sparsight.request_id", ""),
        "method": method,
        "route": route,
        "status": status,
        "seconds": round(seconds, 4),
    }
    for name, key in (("key", "sparsight.key"), ("reason", REFUSAL), ("left", LEFT)):
        if scope.get(key):
            seen[name] = scope[key]
    return seen
