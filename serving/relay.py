"""A gateway elsewhere, handed on under this address, so that a page beside it needs no permission of it.

Only what pages ask for is handed on. A stream goes on piece by piece, and a client that leaves ends its
answer there too. The API key is added here and never reaches a browser.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from serving.body import read_limited
from serving.errors import HttpError, add_error_handlers
from sparse_encoder.errors import SparsightError

GET = ("/v1/models", "/v1/features", "/v1/features/{index}", "/health", "/ready")
POST = (
    "/v1/chat/completions",
    "/v1/explain",
    "/v1/features/activations",
    "/v1/features/locate",
    "/v1/steering/recipe",
    "/v1/steering/sweep",
)
MAX_BODY_BYTES = 32 * 2**20  # what a gateway takes by default
TIMEOUT_S = 300.0  # between two pieces: a gateway's own deadline
KEPT = ("content-type", "retry-after", "x-request-id")  # headers of its answers that are handed on


class GatewayGoneError(HttpError):
    """Nobody answers at the gateway's address."""

    status = 502
    code = "gateway_gone"


def create_relay(
    api_url: str, *, key: str | None = None, transport: httpx.AsyncBaseTransport | None = None
) -> FastAPI:
    """An application that answers what pages ask with the answers of the gateway at `api_url`.

    key: its API key. transport: in place of the network, for tests. Raises SparsightError for what is
    no address.
    """
    base = read_api_url(api_url)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    # No proxy of the environment: a gateway is mostly on this network, which a proxy does not see.
    client = httpx.AsyncClient(
        base_url=base, headers=headers, timeout=TIMEOUT_S, trust_env=False, transport=transport
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)

    async def hand_on(request: Request) -> Response:
        asked = client.build_request(
            request.method,
            request.url.path,
            params=request.url.query or None,
            content=await _body(request) if request.method == "POST" else None,
            headers={"content-type": request.headers.get("content-type", "")},
        )
        try:
            answer = await client.send(asked, stream=True)
        except httpx.HTTPError as error:
            raise GatewayGoneError(
                f"no answer from {base} ({type(error).__name__}); is `sparsight serve` running there?"
            ) from None
        kept = {name: answer.headers[name] for name in KEPT if name in answer.headers}
        return StreamingResponse(
            answer.aiter_bytes(), answer.status_code, kept, background=BackgroundTask(answer.aclose)
        )

    for method, paths in (("GET", GET), ("POST", POST)):
        for path in paths:
            app.add_api_route(path, hand_on, methods=[method], include_in_schema=False)
    add_error_handlers(app)
    return app


def read_api_url(text: str) -> str:
    """`http://host:8000` of an address, with or without `/v1`. Raises SparsightError for none."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.userinfo:
        raise SparsightError(
            f"{text[:200]!r} is no address of a gateway; write it like http://127.0.0.1:8000",
            param="api",
        )
    return str(url.copy_with(fragment=None)).rstrip("/").removesuffix("/v1").rstrip("/")


async def _body(request: Request) -> bytes:
    refusal = f"the request has more than {MAX_BODY_BYTES // 2**20} MiB; send a smaller photograph"
    return await read_limited(request, MAX_BODY_BYTES, refusal)
