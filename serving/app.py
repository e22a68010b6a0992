"""The gateway as an ASGI application."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI

from serving.batching import Worker
from serving.chat.route import chat_routes
from serving.engines.engine import EngineMaker
from serving.errors import add_error_handlers
from serving.explain.route import explain_routes
from serving.features.route import feature_routes
from serving.gateway import Gateway
from serving.health.route import health_routes
from serving.limits import Limits
from serving.locate.route import locate_routes
from serving.models.route import model_routes
from serving.recipe.route import recipe_routes
from serving.steering.route import steering_routes
from vlm.pipeline import Pipeline

_ROUTES = (
    chat_routes,
    model_routes,
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
    engine: EngineMaker | None = None,
) -> FastAPI:
    """The application over `pipeline`, which belongs to its worker thread from here on.

    engine: makes what answers chats; None leaves them to the worker, that is to transformers.
    The thread ends with the application's lifespan; where none is run, ``app.state.gateway.worker``
    has `close`.
    """
    limits = limits or Limits()
    worker = Worker(pipeline, limits)
    gateway = Gateway(pipeline, worker, engine(worker) if engine else worker, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await gateway.engine.aclose()
        gateway.worker.close()

    # No pages of documentation: FastAPI's load their scripts from a network that may not be there.
    app = FastAPI(title="Sparsight", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.gateway = gateway
    for routes in _ROUTES:
        app.include_router(routes(gateway))
    add_error_handlers(app)
    for mount in mounts:
        mount(app)
    return app
