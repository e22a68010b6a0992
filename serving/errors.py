"""Every failure as OpenAI's envelope: ``{"error": {"message", "type", "param", "code"}}``.

A refusal says what to change and names the key; a fault of ours says only a request id, under which
the log holds the rest. Clients never see a traceback or the words of a library.
"""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.schema import methods_of
from sparse_encoder.errors import SparsightError

# In an ASGI scope: the code of the error that a request got, and whether its client left early.
REFUSAL = "sparsight.refusal"
LEFT = "sparsight.left"

logger = logging.getLogger(__name__)


class HttpError(SparsightError):
    """A refusal with an HTTP status other than 400."""

    status = 400
    headers: Mapping[str, str] = {}


class ModelNotFoundError(HttpError):
    status = 404
    code = "model_not_found"


class FeatureNotFoundError(HttpError):
    status = 404
    code = "feature_not_found"


class NotFoundError(HttpError):
    status = 404
    code = "not_found"


class BodyTooLargeError(HttpError):
    status = 413
    code = "body_too_large"


class MediaTypeError(HttpError):
    status = 415
    code = "unsupported_media_type"


class OverloadedError(HttpError):
    """More is open than the gateway takes on; the same request may be sent again."""

    status = 503
    code = "overloaded"
    headers = {"retry-after": "2"}  # seconds, about one batch of captions on two CPU cores

    @classmethod
    def closing(cls) -> "OverloadedError":
        return cls("the server is shutting down; send the request again later")


class DeadlineError(HttpError):
    """The answer took longer than any may."""

    status = 504
    code = "deadline_exceeded"

    @classmethod
    def of(cls, deadline_s: int) -> "DeadlineError":
        return cls(
            f"there was no whole answer after {deadline_s} s; ask for fewer tokens, or again when "
            "the server is less busy"
        )


def envelope(
    message: str, *, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The JSON object that OpenAI's clients read an error from."""
    # A message may quote what the client sent; a lone surrogate in it cannot be sent back.
    message = message.encode("utf-8", "replace").decode()
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def describe(error: Exception, request_id: str) -> tuple[int, dict[str, Any]]:
    """HTTP status and envelope of any failure; what is not a refusal goes to the log."""
    if isinstance(error, SparsightError):
        status = error.status if isinstance(error, HttpError) else 400
        kind = "server_error" if status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if status == 429 else kind
        return status, envelope(error.message, kind=kind, param=error.param, code=error.code)
    logger.error("request %s failed", request_id, exc_info=error)
    message = f"something went wrong on our side; the server's log has the details of {request_id}"
    return 500, envelope(message, kind="server_error", code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Makes every answer of `app` with a status of 400 or more an envelope."""
    app.add_exception_handler(SparsightError, _refusal)
    app.add_exception_handler(HTTPException, _routing)
    app.add_middleware(RequestIds)


def request_id(request: Request) -> str:
    """The id in the answer's ``x-request-id`` header."""
    return str(request.scope["sparsight.request_id"])


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    status, body = describe(error, request_id(request))
    request.scope[REFUSAL] = body["error"]["code"]
    headers = error.headers if isinstance(error, HttpError) else {}
    return JSONResponse(body, status, headers=dict(headers))


async def _routing(request: Request, error: Exception) -> JSONResponse:
    """What the router itself refuses: an unknown route, a wrong method."""
    assert isinstance(error, HTTPException)
    place = f"{request.method} {request.url.path}"
    message, code = f"{place}: {error.detail}", "http_error"
    if error.status_code == 404:
        message, code = f"no such route: {place}; /openapi.json lists them", "unknown_route"
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The router names the methods of the first of the path's routes alone.
        named = {Headers(error.headers).get("allow", "another method")}
        headers = {"allow": ", ".join(sorted(named | methods_of(request.app, request.url.path)))}
        message, code = f"wrong method: {place}; use {headers['allow']}", "method_not_allowed"
    request.scope[REFUSAL] = code
    body = envelope(message, kind="invalid_request_error", code=code)
    return JSONResponse(body, error.status_code, headers=headers)


class RequestIds:
    """Outermost layer: gives each request an id and turns what nobody caught into a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["sparsight.request_id"] = f"req_{uuid4().hex}"
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = scope["sparsight.request_id"]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            scope[LEFT] = True
            logger.info("client of %s left early", scope["sparsight.request_id"])
        except Exception as error:
            if started:  # too late for an envelope: the broken connection is the message
                raise
            status, body = describe(error, scope["sparsight.request_id"])
            scope[REFUSAL] = body["error"]["code"]
            headers = error.headers if isinstance(error, HttpError) else {}
            await JSONResponse(body, status, dict(headers))(scope, receive, send_with_id)
