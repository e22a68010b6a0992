"""The queue in front of the pipeline."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from serving.batching import Worker
from serving.errors import OverloadedError
from serving.limits import Limits
from sparse_encoder.errors import SparsightError
from vlm.edits import Edit
from vlm.pipeline import Answer, Message, Request, TextPart

T = TypeVar("T")


def asking(text: str, *edits: Edit) -> Request:
    return Request((Message("user", (TextPart(text),)),), edits)


@pytest.fixture
def worker(pipeline: Any) -> Iterator[Worker]:
    worker = Worker(pipeline, Limits(max_open=6, max_batch=4, max_streams=2))
    yield worker
    pipeline.gate.set()
    worker.close()


async def hold(worker: Worker, pipeline: Any) -> "asyncio.Task[Answer]":
    """Occupies the worker until pipeline.gate is set."""
    pipeline.gate.clear()
    held = asyncio.create_task(worker.answer(asking("held")))
    while not pipeline.busy.is_set():
        await asyncio.sleep(0.001)
    return held


def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which fails rather than hangs."""
    return asyncio.run(asyncio.wait_for(work, 60))


async def collect(stream: Any) -> list[str]:
    return [item async for item in stream if isinstance(item, str)]


def test_requests_that_wait_together_are_one_batch_and_none_gets_anothers_answer(
    worker: Worker, pipeline: Any
) -> None:
    async def run() -> list[Answer]:
        held = await hold(worker, pipeline)
        waiting = [asyncio.create_task(worker.answer(asking(f"q{i}"))) for i in range(5)]
        await asyncio.sleep(0.01)
        pipeline.gate.set()
        await held
        return await asyncio.gather(*waiting)

    answers = finish(run())
    assert [answer.text.split()[-1] for answer in answers] == ["q0", "q1", "q2", "q3", "q4"]
    assert pipeline.batches == [1, 4, 1]
    assert worker.n_open == 0


def test_a_refused_request_fails_alone_in_its_batch(worker: Worker, pipeline: Any) -> None:
    async def run() -> list[Any]:
        held = await hold(worker, pipeline)
        bad = asking("bad", Edit(op="ablate", concept="unicorn"))
        requests = [asking("a"), bad, asking("boom"), asking("b")]
        waiting = [asyncio.create_task(worker.answer(request)) for request in requests]
        await asyncio.sleep(0.01)
        pipeline.gate.set()
        await held
        return await asyncio.gather(*waiting, return_exceptions=True)

    first, refused, broken, last = finish(run())
    assert first.text.endswith("a") and last.text.endswith("b")
    assert isinstance(refused, SparsightError) and isinstance(broken, RuntimeError)


def test_what_comes_above_the_limit_is_refused_at_once(worker: Worker, pipeline: Any) -> None:
    async def run() -> None:
        held = await hold(worker, pipeline)
        waiting = [asyncio.create_task(worker.answer(asking("q"))) for _ in range(5)]
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError, match="6 requests are waiting"):
            await worker.answer(asking("one more"))
        with pytest.raises(OverloadedError):
            worker.stream(asking("one more"))
        pipeline.gate.set()
        await asyncio.gather(held, *waiting)
        await worker.answer(asking("again"))

    finish(run())


def test_an_answer_that_nobody_waits_for_is_not_made(worker: Worker, pipeline: Any) -> None:
    async def run() -> None:
        held = await hold(worker, pipeline)
        left = asyncio.create_task(worker.answer(asking("left")))
        await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.sleep(0.01)
        pipeline.gate.set()
        await held
        await worker.answer(asking("next"))

    finish(run())
    texts = [request.messages[0].parts[0].text for request in pipeline.requests]
    assert texts == ["held", "next"]


def test_streams_advance_in_turn_and_batches_between_them(worker: Worker, pipeline: Any) -> None:
    pipeline.pause_s = 0.01

    async def run() -> None:
        streams = [worker.stream(asking(f"{name} " * 40)) for name in "ab"]
        both = [asyncio.create_task(collect(stream)) for stream in streams]
        while len(pipeline.order) < 6:  # both are under way
            await asyncio.sleep(0.001)
        await worker.answer(asking("q"))
        await asyncio.gather(*both)

    finish(run())
    order = pipeline.order
    at = order.index("answer")
    assert set(order[at:]) == {"answer", "a", "b"}  # neither stream had to end first
    pieces = "".join(name for name in order if name != "answer")
    assert "ab" * 15 in pieces or "ba" * 15 in pieces


def test_streams_above_the_limit_wait_their_turn_and_all_end(worker: Worker, pipeline: Any) -> None:
    async def run() -> list[list[str]]:
        streams = [worker.stream(asking(f"s{i}")) for i in range(5)]
        return await asyncio.gather(*map(collect, streams))

    texts = ["".join(pieces) for pieces in finish(run())]
    assert [text.split()[-1] for text in texts] == ["s0", "s1", "s2", "s3", "s4"]
    assert pipeline.closed_streams == 5
    assert worker.n_open == 0


def test_a_cancelled_stream_is_closed_and_frees_its_place(worker: Worker, pipeline: Any) -> None:
    pipeline.pause_s = 0.01

    async def run() -> None:
        stream = worker.stream(asking("w " * 1000))
        async for _ in stream:
            break
        stream.cancel()
        for _ in range(3000):
            if worker.n_open == 0:
                return
            await asyncio.sleep(0.01)

    finish(run())
    assert (pipeline.closed_streams, worker.n_open) == (1, 0)


def test_an_answer_whose_client_has_left_ends_at_its_next_token(
    worker: Worker, pipeline: Any
) -> None:
    async def run() -> None:
        (await hold(worker, pipeline)).cancel()
        for _ in range(3000):
            if worker.n_open == 0:
                return
            await asyncio.sleep(0.01)

    finish(run())
    assert (pipeline.stopped, worker.n_open, pipeline.gate.is_set()) == (1, 0, False)


def test_a_call_runs_on_the_same_thread_and_hands_on_its_fault(
    worker: Worker, pipeline: Any
) -> None:
    async def run() -> None:
        await worker.answer(asking("q"))
        assert await worker.call(lambda pipeline: pipeline.encode([None]).n_images) == 1
        with pytest.raises(ZeroDivisionError):
            await worker.call(lambda pipeline: 1 // 0)

    finish(run())
    assert len(pipeline.threads) == 1


def test_closing_refuses_what_waits_and_what_comes(worker: Worker, pipeline: Any) -> None:
    async def run() -> None:
        held = await hold(worker, pipeline)
        waiting = asyncio.create_task(worker.answer(asking("waiting")))
        stream = worker.stream(asking("stream"))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(worker.close)
        for late in (held, waiting, collect(stream), worker.answer(asking("late"))):
            with pytest.raises(OverloadedError, match="shutting down"):
                await late

    finish(run())
    assert not worker.alive


def test_a_full_queue_is_answered_503_with_a_time_to_come_back(pipeline: Any, serve: Any) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}

    async def run(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:

            def post() -> "asyncio.Task[httpx.Response]":
                return asyncio.create_task(client.post("/v1/chat/completions", json=body))

            first = post()
            while not pipeline.busy.is_set():
                await asyncio.sleep(0.001)
            second = await post()
            pipeline.gate.set()
            return [await first, second]

    pipeline.gate.clear()
    with serve(pipeline, limits=Limits(max_open=1)) as url:
        first, second = asyncio.run(run(url))
    assert (first.status_code, second.status_code) == (200, 503)
    assert int(second.headers["retry-after"]) >= 1
    assert second.json()["error"]["code"] == "overloaded"


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="max_batch is 0"):
        Limits(max_batch=0)
