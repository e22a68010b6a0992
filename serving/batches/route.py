"""``/v1/batches``: HTTP only."""

from fastapi import APIRouter, Request

from serving.access import key_name
from serving.batches.runner import BatchRunner
from serving.batches.wire import Batch, BatchList, BatchRequest
from serving.files.route import store_of
from serving.gateway import Gateway, body_schema
from serving.page import read_page


def batch_routes(gateway: Gateway) -> APIRouter:
    """The router over this gateway."""
    router = APIRouter()

    def runner() -> BatchRunner:
        store_of(gateway)  # refuses where there are no files
        assert gateway.batches is not None
        return gateway.batches

    @router.post("/v1/batches", response_model=Batch, openapi_extra=body_schema(BatchRequest))
    async def create_batch(http: Request) -> Batch:
        """Answers each line of a file, one batch after another."""
        runner()
        body = await gateway.read(http, BatchRequest, lambda body: body)
        return await runner().create(body, key_name(http))

    @router.get("/v1/batches")
    async def list_batches(http: Request) -> BatchList:
        """All batches of this key, newest first."""
        data, more = read_page(http.query_params).of(runner().all(key_name(http)))
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, first_id=ends[0], last_id=ends[1], has_more=more)

    @router.get("/v1/batches/{batch_id}")
    async def get_batch(http: Request, batch_id: str) -> Batch:
        """How far a batch is."""
        return runner().get(batch_id, key_name(http))

    @router.post("/v1/batches/{batch_id}/cancel")
    async def cancel_batch(http: Request, batch_id: str) -> Batch:
        """Ends a batch; what was answered so far can be read once it is `cancelled`."""
        return runner().cancel(batch_id, key_name(http))

    return router
