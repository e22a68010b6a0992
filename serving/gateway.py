"""What every endpoint works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
from starlette.requests import Request

from serving.batches.runner import BatchRunner
from serving.batching import Worker
from serving.body import read_body, read_object
from serving.engines.engine import Engine
from serving.files.store import FileStore
from serving.limits import Limits
from serving.metrics import Metrics
from serving.wire import Wire, parse_wire
from vlm.pipeline import Pipeline

T = TypeVar("T")
W = TypeVar("W", bound=Wire)

# Bodies are read beside the model's thread; more at once where a reader may wait for the web.
N_READERS = 4
N_FETCHING_READERS = 32


@dataclass(frozen=True)
class Gateway:
    """The pipeline (read only here; its work is the worker's), the worker, limits and metrics.

    Chats are the engine's, which is the worker itself where transformers runs the language model.
    """

    pipeline: Pipeline
    worker: Worker
    engine: Engine
    limits: Limits
    metrics: Metrics
    files: FileStore | None = None
    batches: BatchRunner | None = None  # where there are files
    readers: anyio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        n = N_FETCHING_READERS if self.limits.remote.hosts else N_READERS
        object.__setattr__(self, "readers", anyio.CapacityLimiter(n))

    def refuse(self) -> None:
        """From any thread: ends what is open with an error that says so, and takes on no more."""
        self.engine.refuse()
        self.worker.close()

    async def read(self, request: Request, kind: type[W], then: Callable[[W], T]) -> T:
        """`then(body)` of the request's body as `kind`, off the event loop."""
        body = await read_body(request, self.limits.max_body_bytes)

        def work() -> T:
            return then(parse_wire(kind, read_object(body)))

        return await anyio.to_thread.run_sync(work, limiter=self.readers)

    async def parsed(self, data: Mapping[str, Any], kind: type[W], then: Callable[[W], T]) -> T:
        """`then(body)` of an object that was read already, as `kind`, off the event loop."""

        def work() -> T:
            return then(parse_wire(kind, data))

        return await anyio.to_thread.run_sync(work, limiter=self.readers)


def body_schema(kind: type[Wire]) -> dict[str, Any]:
    """The part of /openapi.json that describes a body which we read ourselves."""
    schema = kind.model_json_schema()
    whole = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": whole}}}}


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """`node` with each reference replaced by what it points to, for no other place holds them."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {
        key: _inlined(item, definitions) for key, item in node.items() if key != "discriminator"
    }
