"""Answers of one client together: one batch of the worker, all at once to vLLM, none for nobody."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serving.batching import Worker
from serving.engines.together import answer_together
from serving.errors import OverloadedError
from serving.limits import Limits
from vlm.pipeline import Message, Request, TextPart


def asked(n: int) -> list[Request]:
    return [Request((Message("user", (TextPart(f"word {i}"),)),)) for i in range(n)]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert true()


@pytest.fixture
def worker(pipeline: Any) -> Any:
    made = Worker(pipeline, Limits(max_batch=4))
    yield made
    pipeline.gate.set()
    made.close()


def test_they_are_one_batch_of_the_worker_whoever_else_asks(worker: Worker, pipeline: Any) -> None:
    async def work() -> list[Any]:
        others = [asyncio.ensure_future(worker.answer(one)) for one in asked(3)]
        found = await answer_together(worker, worker, asked(4))
        await asyncio.gather(*others)
        return found

    answers = asyncio.run(work())
    assert [answer.text.split()[-1] for answer in answers] == ["0", "1", "2", "3"]
    assert 4 in pipeline.batches


def test_a_client_that_leaves_ends_the_whole_batch(worker: Worker, pipeline: Any) -> None:
    pipeline.gate.clear()

    async def work() -> None:
        task = asyncio.ensure_future(answer_together(worker, worker, asked(4)))
        while not pipeline.busy.is_set():
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    until(lambda: pipeline.stopped == 4)


def test_half_an_answer_is_none_when_the_worker_closes(worker: Worker, pipeline: Any) -> None:
    pipeline.gate.clear()

    async def work() -> None:
        task = asyncio.ensure_future(answer_together(worker, worker, asked(2)))
        while not pipeline.busy.is_set():
            await asyncio.sleep(0.005)
        await asyncio.to_thread(worker.close)
        with pytest.raises(OverloadedError, match="shutting down"):
            await task

    asyncio.run(work())


def test_a_sweep_goes_to_vllm_as_one_request_a_dose(
    gateway: Any, fake: Any, as_vllm: Any, uri: str
) -> None:
    fake.answer = as_vllm
    body = {"model": "tiny", "image": uri, "concept": "dog", "doses": [0, 1, 4], "max_tokens": 5}
    with gateway(fake.url) as url:
        answer = httpx.post(f"{url}/v1/steering/sweep", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
    assert len(fake.bodies) == 4
    sent = {sent["messages"][0]["content"][0]["data"] for sent in fake.bodies}
    assert len(sent) == 4  # each dose its own soft tokens
    assert [point["dose"] for point in answer.json()["points"]] == [0, 1, 4]


def test_where_one_fails_the_others_are_ended_and_the_fault_is_told(
    gateway: Any, fake: Any, uri: str
) -> None:
    body = {
        "model": "tiny", "image": uri, "concept": "dog", "doses": [0, 1], "prompt": "fault please",
    }  # fmt: skip
    with gateway(fake.url) as url:
        answer = httpx.post(f"{url}/v1/steering/sweep", json=body, timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
        health = f"{url}/health"
        until(lambda: httpx.get(health).json()["open_requests"] == 0)
