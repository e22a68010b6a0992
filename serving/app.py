"""The gateway as an ASGI application."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from serving.access import Access
from serving.batches.answers import answer_line
from serving.batches.route import batch_routes
from serving.batches.runner import BatchRunner
from serving.batching import Worker
from serving.chat.route import chat_routes
from serving.departures import Departures
from serving.embeddings.route import embedding_routes
from serving.engines.engine import EngineMaker
from serving.errors import add_error_handlers
from serving.explain.route import explain_routes
from serving.features.route import feature_routes
from serving.files.route import file_routes
from serving.files.store import FileStore
from serving.gateway import Gateway
from serving.health.route import health_routes
from serving.keys import KeyRing
from serving.limits import Limits
from serving.locate.route import locate_routes
from serving.metrics import Metrics
from serving.models.route import model_routes
from serving.observed import Observed
from serving.recipe.route import recipe_routes
from serving.schema import add_schema
from serving.steering.route import steering_routes
from serving.tracing import find_tracer
from vlm.pipeline import Pipeline

_ROUTES = (
    chat_routes,
    model_routes,
    embedding_routes,
    file_routes,
    batch_routes,
    locate_routes,  # before the features, which take any word for an index
    feature_routes,
    explain_routes,
    recipe_routes,
    steering_routes,
    health_routes,
)

# Adds a page to the application, e.g. at /demo. It comes in from outside, since no import of ours
# may point up to the pages.
Mount = Callable[[FastAPI], object]


def create_app(
    pipeline: Pipeline,
    *,
    limits: Limits | None = None,
    mounts: Sequence[Mount] = (),
    keys: Path | None = None,
    cors_origins: Sequence[str] = (),
    engine: EngineMaker | None = None,
    files: Path | None = None,
) -> FastAPI:
    """The application over `pipeline`, which belongs to its worker thread from here on.

    keys: file of API keys; without one, anybody who reaches the port may ask. cors_origins: whose
    pages may read answers in a browser. engine: makes what answers chats; None leaves them to the
    worker, that is to transformers. files: folder of the files and batches that clients leave here;
    None: there are none.
    The thread ends with the application's lifespan; where none is run, ``app.state.gateway.worker``
    has `close`.
    """
    limits = limits or Limits()
    metrics = Metrics()
    ring = None if keys is None else KeyRing(keys)
    tracer = find_tracer()
    store = None if files is None else FileStore(files)  # first: what it refuses starts no thread
    batches = None if store is None else BatchRunner(store, limits.max_body_bytes)
    worker = Worker(pipeline, limits, metrics)
    answering = engine(worker) if engine else worker
    gateway = Gateway(pipeline, worker, answering, limits, metrics, store, batches)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if batches is not None:
            batches.start(partial(answer_line, gateway))
        yield
        if batches is not None:
            await batches.close()
        await gateway.engine.aclose()
        gateway.worker.close()

    # No pages of documentation: FastAPI's load their scripts from a network that may not be there.
    # No redirects: what is no route is no route, and a redirect may lose a body or a key.
    app = FastAPI(
        title="Sparsight",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    for routes in _ROUTES:
        app.include_router(routes(gateway))
    # From the inside out.
    if ring is not None:
        app.add_middleware(Access, ring=ring, limits=limits)
    app.add_middleware(Departures, limits=limits)
    add_error_handlers(app)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_middleware(Observed, metrics=metrics, tracer=tracer)
    add_schema(app)
    for mount in mounts:
        mount(app)
    return app
