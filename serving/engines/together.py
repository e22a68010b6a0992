"""Several requests of one client answered together: one batch of either engine.

The worker gets them as one job, so that nobody else's request splits them over two batches; vLLM
gets them at once, and batches what it has. Where the client leaves, none of them is gone on with.
"""

import asyncio
import threading
from collections.abc import Sequence

from serving.batching import Worker
from serving.engines.engine import Engine
from serving.errors import OverloadedError
from vlm.pipeline import Answer, Pipeline, Request


async def answer_together(
    engine: Engine, worker: Worker, requests: Sequence[Request]
) -> list[Answer]:
    """All answers in order. Raises what the first to fail raised; the others are ended then."""
    if engine is worker:
        return await _one_batch(worker, requests)
    tasks = [asyncio.ensure_future(engine.answer(request)) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _one_batch(worker: Worker, requests: Sequence[Request]) -> list[Answer]:
    left = threading.Event()

    def unwanted(_: int) -> bool:
        if not worker.alive:
            left.set()
        return left.is_set()

    def work(pipeline: Pipeline) -> list[Answer]:
        answers = pipeline.answer(requests, unwanted=unwanted)
        if left.is_set():  # half an answer is none
            raise OverloadedError("the server is shutting down; send the request again later")
        return answers

    try:
        return await worker.call(work)
    except asyncio.CancelledError:
        left.set()  # a future that runs cannot be cancelled; the batch looks here
        raise
