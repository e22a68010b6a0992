"""Many requests with edits of their own at once, and every way their answers could get mixed up."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
import torch

from serving.batching import Worker
from serving.errors import OverloadedError
from serving.limits import Limits
from serving.steered_answer import UnsteeredAnswerError, check_steered
from sparse_encoder.image import DecodedImage, decode_image
from tests.serving.many_edits import N, chat, edits, forget, images
from tests.tiny_model import png, tiny_pipeline
from vlm.edits import Edit
from vlm.pipeline import Answer, Pipeline, Request, Sampling, caption_request
from vlm.receipt import verify_receipt

SHORT = Sampling(max_tokens=6)


def asked() -> list[Request]:
    pipeline = tiny_pipeline()
    return [
        caption_request(decode_image(image), edits=[edit], sampling=SHORT)
        for image, edit in zip(images(), edits(pipeline), strict=True)
    ]


@pytest.fixture(scope="module")
def alone() -> list[Answer]:
    """Each request's answer on a pipeline that knows of no other: nothing is kept for it."""
    pipeline = tiny_pipeline()
    answers = []
    for request in asked():
        forget(pipeline)
        answers.append(pipeline.answer([request])[0])
    return answers


def wrong(answers: Sequence[Answer], expected: Sequence[Answer]) -> int:
    """How many answers differ from the one of the same request alone, in text or receipt."""
    return sum(
        (a.text, a.receipt) != (b.text, b.receipt) for a, b in zip(answers, expected, strict=True)
    )


@pytest.mark.slow
def test_256_edits_at_once_are_answered_over_http_as_each_is_alone(
    alone: list[Answer], serve: Any
) -> None:
    pipeline = tiny_pipeline()

    def body(image: bytes, edit: Edit) -> dict[str, Any]:
        text = "Describe the image in one sentence."
        return chat(image, edit, text, max_tokens=SHORT.max_tokens)

    async def run(url: str) -> list[dict[str, Any]]:
        limits = httpx.Limits(max_connections=N)
        async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
            posts = [
                client.post("/v1/chat/completions", json=body(image, edit))
                for image, edit in zip(images(), edits(pipeline), strict=True)
            ]
            return [answer.json() for answer in await asyncio.gather(*posts)]

    with serve(pipeline, limits=Limits(max_open=N, max_batch=64)) as url:
        got = asyncio.run(run(url))
    said = [(one["choices"][0]["message"]["content"], one["steering"]["receipt"]) for one in got]
    expected = [(one.text, one.receipt.to_json()) for one in alone]
    assert sum(a != b for a, b in zip(said, expected, strict=True)) == 0
    assert (
        len({text for text, _ in said}) > 32
    )  # 48 on the machine this was written on: edits are to be seen
    assert (pipeline.kept_codes.misses, pipeline.kept_codes.hits) == (17, N - 17)
    for i in range(0, N, 16):
        assert verify_receipt(said[i][1], [decode_image(images()[i])], pipeline) == []


def test_the_first_answer_of_a_server_is_the_one_alone_whatever_number_of_threads_is_set() -> None:
    """Its photograph is the first work of the worker's thread, and all later ones share its code."""
    request = asked()[0]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1 if n_threads > 1 else 2)  # which no new thread has by itself
    try:
        alone = tiny_pipeline().answer([request])[0]
        worker = Worker(tiny_pipeline(), Limits())
        try:
            got = asyncio.run(worker.answer(request))
        finally:
            worker.close()
    finally:
        torch.set_num_threads(n_threads)
    assert wrong([got], [alone]) == 0


# Each way an unsteered, or another's, answer could come back: what is done to a pipeline.


def codes_kept_after_the_edits(pipeline: Pipeline, _: pytest.MonkeyPatch) -> None:
    """The code cache would hold what the last edit left."""
    steer = pipeline.steer

    def spoilt(codes: Any, asked: Any) -> Any:
        steered = steer(codes, asked)
        if codes.n_images == 1:
            for key in list(pipeline.kept_codes._values):
                pipeline.kept_codes._values[key] = steered.codes
        return steered

    pipeline.steer = spoilt  # type: ignore[method-assign]


def soft_tokens_kept_by_photograph(pipeline: Pipeline, patch: pytest.MonkeyPatch) -> None:
    """A key that forgets the edits."""
    patch.setattr("sparse_encoder.codes.Codes.sha256", lambda codes: "the same for all")


def edits_that_are_dropped(pipeline: Pipeline, _: pytest.MonkeyPatch) -> None:
    """A fallback that cannot steer."""
    answer = pipeline.answer
    pipeline.answer = lambda rs: answer([replace(r, edits=()) for r in rs])  # type: ignore


def a_batch_in_another_order(pipeline: Pipeline, _: pytest.MonkeyPatch) -> None:
    answer = pipeline.answer
    pipeline.answer = lambda rs: answer(rs)[::-1]  # type: ignore[method-assign]


PLANTS = [
    codes_kept_after_the_edits,
    soft_tokens_kept_by_photograph,
    edits_that_are_dropped,
    a_batch_in_another_order,
]


@pytest.mark.slow
@pytest.mark.parametrize("plant", [None, *PLANTS])
def test_each_planted_mix_up_is_seen_by_the_comparison_and_none_is_without(
    alone: list[Answer], monkeypatch: pytest.MonkeyPatch, plant: Callable[..., None] | None
) -> None:
    pipeline = tiny_pipeline()
    if plant is not None:
        plant(pipeline, monkeypatch)
    found = wrong(pipeline.answer(asked()[: N // 8]), alone[: N // 8])
    assert (found > 0) == (plant is not None)


# The same at the gate: what the route itself does with an answer that is not the one asked for.


def request_and_answer() -> tuple[Request, Answer]:
    pipeline = tiny_pipeline()
    request = replace(asked()[0], want_receipt=True)
    return request, pipeline.answer([request])[0]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Request, Answer]]:
    yield request_and_answer()


def other_photo() -> DecodedImage:
    return decode_image(png(99))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda receipt: None, "without a receipt"),
        (lambda receipt: replace(receipt, edits=()), "edits are not those"),
        (lambda receipt: replace(receipt, edits=receipt.edits * 2), "edits that the request"),
        (lambda receipt: replace(receipt, fingerprint="0" * 64), "another model"),
        (lambda receipt: replace(receipt, images=(other_photo().sha256,)), "other photographs"),
    ],
)
def test_an_answer_that_is_not_the_one_asked_for_is_held_back(
    pair: tuple[Request, Answer], change: Any, word: str
) -> None:
    request, answer = pair
    assert check_steered(request, answer, "f" * 64) is answer
    with pytest.raises(UnsteeredAnswerError, match=word):
        check_steered(request, replace(answer, receipt=change(answer.receipt)), "f" * 64)


def test_a_steered_answer_is_held_back_from_a_request_without_edits(
    pair: tuple[Request, Answer],
) -> None:
    request, answer = pair
    with pytest.raises(UnsteeredAnswerError, match="edits that the request has not"):
        check_steered(replace(request, edits=()), answer, "f" * 64)


class Unsteered:
    """Turns the fake pipeline into one that forgets edits, at once or after a failed first try."""

    def __init__(self, pipeline: Any, *, first_fails: bool) -> None:
        self._make = pipeline._answer
        self._fails = first_fails
        pipeline._answer = self.answer

    def answer(self, request: Request) -> Any:
        if self._fails:
            self._fails = False
            raise RuntimeError("the engine died")
        return self._make(replace(request, edits=(), want_receipt=True))


def steered_body(uri: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "so?"}]
    return {
        "model": "fake",
        "messages": [{"role": "user", "content": content}],
        "steering": {"edits": [{"concept": "dog", "op": "ablate"}]},
        **more,
    }


def test_an_engine_that_forgets_edits_is_answered_500_and_its_text_stays_here(
    http: httpx.Client, uri: str, pipeline: Any
) -> None:
    Unsteered(pipeline, first_fails=False)
    answer = http.post("/v1/chat/completions", json=steered_body(uri))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "unsteered_answer")
    assert "photos" not in answer.text


def test_a_stream_of_an_engine_that_forgets_edits_ends_with_an_error_and_not_as_done(
    http: httpx.Client, uri: str, pipeline: Any
) -> None:
    Unsteered(pipeline, first_fails=False)
    answer = http.post("/v1/chat/completions", json=steered_body(uri, stream=True))
    assert "unsteered_answer" in answer.text.split("\n\n")[-2]
    assert "[DONE]" not in answer.text and '"finish_reason":"stop"' not in answer.text


def test_no_retry_answers_a_steered_request_without_its_edits(pipeline: Any, uri: str) -> None:
    """A batch that fails is tried again in halves: with the same requests, edits and all."""
    requests = [replace(r, edits=(Edit(op="ablate", concept="dog"),)) for r in asked()[:4]]
    make, failed = pipeline.answer, []

    def fails_once(batch: Sequence[Request], **how: Any) -> list[Answer]:
        if len(batch) > 1:
            failed.append(len(batch))
            raise RuntimeError("a fault that one request brings to all")
        return list(make(batch, **how))

    pipeline.answer = fails_once

    async def run() -> list[Answer]:
        worker = Worker(pipeline, Limits())
        try:
            return await asyncio.gather(*(worker.answer(request) for request in requests))
        finally:
            await asyncio.to_thread(worker.close)

    answers = asyncio.run(run())
    assert failed, "the batch was never tried again"
    for request, answer in zip(requests, answers, strict=True):
        assert check_steered(request, answer, "f" * 64).text.startswith("1 photos, ablate dog")


def test_a_stream_cannot_be_resumed_so_none_can_be_resumed_without_edits(
    http: httpx.Client, uri: str, pipeline: Any
) -> None:
    body = steered_body(uri, stream=True)
    plain = {key: value for key, value in body.items() if key != "steering"}
    first = http.post("/v1/chat/completions", json=body)
    events = [line for line in first.text.split("\n\n") if line]
    assert not any(line.startswith("id:") for event in events for line in event.split("\n"))
    # What a browser sends to go on is no part of the protocol here: the request alone decides.
    again = http.post("/v1/chat/completions", json=plain, headers={"last-event-id": "3"})
    assert "ablate" in first.text and "ablate" not in again.text
    assert len(pipeline.requests) == 2


def test_a_refused_request_leaves_no_answer_for_the_next(pipeline: Any) -> None:
    async def run() -> None:
        worker = Worker(pipeline, Limits(max_open=1))
        try:
            pipeline.gate.clear()
            held = asyncio.create_task(worker.answer(asked()[0]))
            while not pipeline.busy.is_set():
                await asyncio.sleep(0.001)
            with pytest.raises(OverloadedError):
                await worker.answer(asked()[1])
            pipeline.gate.set()
            check_steered(asked()[0], await held, "f" * 64)
        finally:
            pipeline.gate.set()
            await asyncio.to_thread(worker.close)

    asyncio.run(run())
