"""The gateway in front of vLLM: what leaves for it, what comes back, and how it fails."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import torch

from serving.app import create_app
from serving.engines.pool import Pool
from serving.engines.vllm_engine import VllmEngine
from serving.limits import Limits
from vlm.kept import Kept
from vlm.merged_checkpoint import served_name
from vlm.pipeline import Pipeline


def chat(uri: str, text: str = "what is it?", **more: Any) -> dict[str, Any]:
    content = [
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "text", "text": text},
    ]
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 12,
        **more,
    }


def ask(url: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def stream(url: str, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The text of a stream, and its events."""
    whole = ask(url, {**body, "stream": True}).text
    lines = [line.removeprefix("data: ") for line in whole.split("\n\n") if line]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    pieces = [c["delta"].get("content", "") for e in events for c in e.get("choices", ())]
    return "".join(pieces), events


NAME = served_name("tiny", "f" * 64)
EDITS = {"edits": [{"feature": 3, "op": "clamp", "value": 2.0, "unit": "raw"}]}


def test_a_photograph_leaves_as_soft_tokens_and_never_as_pixels(
    gateway: Any, fake: Any, uri: str
) -> None:
    with gateway(fake.url) as url:
        said = text_of(ask(url, chat(uri, "what?", temperature=0.5, top_p=0.9, seed=-3, stop="x")))
    assert said == "1 blocks of [10] rows, asked what?"
    (body,) = fake.bodies
    assert [part["type"] for part in body["messages"][0]["content"]] == ["prompt_embeds", "text"]
    assert uri not in json.dumps(body)
    asked = [body[key] for key in ("max_tokens", "temperature", "top_p", "seed", "stop")]
    assert asked == [12, 0.5, 0.9, 2**63 - 3, ["x"]]


def test_steering_changes_the_soft_tokens_that_leave_and_comes_with_its_receipt(
    gateway: Any, fake: Any, fake_module: Any, uri: str
) -> None:
    with gateway(fake.url) as url:
        plain = ask(url, chat(uri)).json()
        steered = ask(url, chat(uri, steering=EDITS)).json()
        again = ask(url, chat(uri, steering=EDITS)).json()
    sent = [fake_module.read_messages(body["messages"])[0] for body in fake.bodies]
    assert sent[0] != sent[1] and sent[1] == sent[2]
    assert "steering" not in plain
    assert steered["steering"] == again["steering"]
    assert steered["steering"]["receipt"]["edits"][0]["feature"] == 3


def test_both_engines_give_the_same_texts(
    gateway: Any,
    serve: Any,
    tiny: Pipeline,
    start_fake: Any,
    as_vllm: Any,
    as_uri: Any,
    picture: Any,
) -> None:
    uris = [as_uri(picture(seed)) for seed in range(3)]
    bodies = [
        chat(uri, f"number {i}?", steering=s) for i, uri in enumerate(uris) for s in (EDITS, None)
    ]
    first = {"role": "user", "content": "hello"}
    several = chat(uris[0])
    several["messages"][0]["content"].insert(
        0, {"type": "image_url", "image_url": {"url": uris[1]}}
    )
    turns = [
        {"role": "system", "content": "be short"},
        first,
        {"role": "assistant", "content": "hi"},
    ]
    bodies += [several, {**several, "messages": [*turns, *several["messages"]]}]
    bodies.append({"model": "tiny", "messages": [first], "max_tokens": 9})
    with serve(tiny) as url:
        reference = [text_of(ask(url, body)) for body in bodies]
    with start_fake(answer=as_vllm) as fake, gateway(fake.url) as url:
        whole = [text_of(ask(url, body)) for body in bodies]
        streamed = [stream(url, body)[0] for body in bodies]
    assert len(set(reference)) > 3  # the comparison would otherwise say nothing
    assert whole == reference
    assert streamed == reference


@pytest.mark.parametrize(
    ("order", "status", "code"),
    [
        ("refuse", 400, "engine_refused"),
        ("busy", 503, "overloaded"),
        ("fault", 502, "engine_failed"),
        ("unknown", 502, "engine_failed"),
        ("garbage", 502, "engine_failed"),
        ("crash", 502, "engine_failed"),
        ("miscount", 502, "engine_failed"),  # vLLM read another prompt than ours
        ("abort", 502, "engine_failed"),
        ("<prompt_embeds>", 400, "reserved_token"),
    ],
)
def test_what_vllm_does_wrong_is_told_in_our_own_words_and_not_tried_again(
    gateway: Any, fake: Any, start_fake: Any, uri: str, order: str, status: int, code: str
) -> None:
    with start_fake() as other, gateway(fake.url, other.url) as url:
        answer = ask(url, chat(uri, f"{order} now", steering=EDITS))
        n_sent = len(fake.bodies) + len(other.bodies)
        after = text_of(ask(url, chat(uri)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert "secret" not in answer.text and "choices" not in answer.json()
    assert n_sent == (0 if code == "reserved_token" else 1)
    assert after.startswith("1 blocks")


@pytest.mark.parametrize("order", ["crash", "broken", "short", "abort"])
def test_a_stream_that_breaks_off_ends_with_an_error_event(
    gateway: Any, fake: Any, uri: str, order: str
) -> None:
    with gateway(fake.url) as url:
        text, events = stream(url, chat(uri, f"{order} now", steering=EDITS))
        after = text_of(ask(url, chat(uri)))
    assert text.startswith("1")  # it had begun
    assert events[-1]["error"]["code"] == "engine_failed"
    assert "secret" not in json.dumps(events)
    assert not any("steering" in event for event in events)  # no receipt for half an answer
    assert after.startswith("1 blocks")


@pytest.mark.parametrize(
    ("order", "told"),
    [("refuse", "vLLM answered 400: Bad Request"), ("broken", "vLLM ended a stream: an error of")],
)
def test_the_words_of_vllm_are_logged_at_debug_alone(
    gateway: Any, fake: Any, uri: str, caplog: pytest.LogCaptureFixture, order: str, told: str
) -> None:
    caplog.set_level(logging.DEBUG, "serving")
    with gateway(fake.url) as url:
        ask(url, chat(uri, f"{order} now", stream=True))
    said = [(record.levelno, caplog.handler.format(record)) for record in caplog.records]
    assert {level for level, line in said if "secret" in line} == {logging.DEBUG}
    assert any(level == logging.WARNING and told in line for level, line in said)


def test_a_stream_of_another_prompt_than_ours_is_refused_before_its_first_word(
    gateway: Any, fake: Any, uri: str
) -> None:
    with gateway(fake.url) as url:
        answer = ask(url, chat(uri, "miscount now", steering=EDITS, stream=True))
    assert answer.status_code == 502
    assert "prompt tokens" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda rows: rows * float("nan"), "finite"),
        (lambda rows: rows / 0, "finite"),
        (lambda rows: torch.cat([rows[:, :1] * 0, rows[:, 1:]], dim=1), "all zero"),
        (lambda rows: rows * 1e9, "norm"),
        (lambda rows: rows[:, :, :5], "shape"),
        (lambda rows: rows.long(), "shape"),
    ],
)
def test_bad_soft_tokens_are_stopped_at_the_gate(
    gateway: Any,
    fake: Any,
    uri: str,
    tiny: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Any,
    word: str,
) -> None:
    # Past the pipeline's own check: the gate has to hold by itself.
    monkeypatch.setattr(tiny, "kept_soft", Kept(1))  # neither of other tests nor for them
    monkeypatch.setattr(
        tiny, "edited_soft_tokens", lambda edited: spoil(tiny.projector(edited.codes))
    )
    with gateway(fake.url) as url:
        answer = ask(url, chat(uri, steering=EDITS))
        streamed = ask(url, chat(uri, steering=EDITS, stream=True))
    for refused in (answer, streamed):
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "bad_soft_tokens"
        assert word in refused.json()["error"]["message"]
    assert fake.bodies == []


def test_a_chat_that_is_too_long_is_refused_before_it_leaves(
    gateway: Any, fake: Any, uri: str
) -> None:
    with gateway(fake.url) as url:
        answer = ask(url, chat(uri, "word " * 200))
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert fake.bodies == []


def test_a_client_that_leaves_ends_the_generation(gateway: Any, fake: Any, uri: str) -> None:
    fake.pause_s = 0.1
    long = chat(uri, " ".join(["word"] * 60), stream=True)
    with gateway(fake.url) as url:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=long, timeout=60) as answer:
            next(answer.iter_lines())
        wait_for(lambda: fake.n_left == 1)
        assert httpx.get(f"{url}/health").json()["open_requests"] == 0


def test_a_stream_that_takes_too_long_ends_with_an_error_event_and_vllm_stops(
    gateway: Any, fake: Any, uri: str
) -> None:
    """As under transformers, see test_departures.py."""
    fake.pause_s = 0.3
    with gateway(fake.url, limits=Limits(deadline_s=1)) as url:
        text, events = stream(url, chat(uri, " ".join(["word"] * 60), steering=EDITS))
        wait_for(lambda: fake.n_left == 1)
        assert httpx.get(f"{url}/health").json()["open_requests"] == 0
    assert text.startswith("1")  # it had begun
    assert events[-1]["error"]["code"] == "deadline_exceeded"
    assert not any("steering" in event for event in events)


@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_open_when_the_server_has_to_end_is_told_so_and_vllm_stops(
    fake: Any, tiny: Pipeline, uri: str, streamed: bool
) -> None:
    fake.pause_s = 0.1 if streamed else 0.0
    hold = threading.Event()
    if not streamed:
        fake.answer = lambda *_: hold.wait(30) and ""
    limits = Limits()
    pool = Pool([fake.url], NAME, None)
    pool.check_all()
    app = create_app(tiny, limits=limits, engine=lambda worker: VllmEngine(worker, pool, limits))
    body = chat(uri, " ".join(["word"] * 60), stream=streamed)

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            asked = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            while not fake.bodies:
                assert not asked.done(), asked.result().text
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3 if streamed else 0)
            await asyncio.to_thread(app.state.gateway.refuse)
            answer = await asyncio.wait_for(asked, 20)
            late = await client.post("/v1/chat/completions", json=body)
            assert late.json()["error"]["code"] == "overloaded"
            await app.state.gateway.engine.aclose()
            return answer

    try:
        answer = asyncio.run(run())
    finally:
        hold.set()
    if streamed:
        *_, last = [line for line in answer.text.splitlines() if line]
        assert answer.text.startswith("data: ") and answer.status_code == 200
        error = json.loads(last.removeprefix("data: "))["error"]
        wait_for(lambda: fake.n_left == 1)
    else:
        assert answer.status_code == 503
        error = answer.json()["error"]
    assert (error["code"], "shutting down" in error["message"]) == ("overloaded", True)


def test_many_streams_at_once_each_get_their_own_answer(gateway: Any, fake: Any, uri: str) -> None:
    fake.pause_s = 0.005

    async def all_of_them(url: str) -> list[str]:
        async with httpx.AsyncClient(timeout=120) as client:

            async def one(i: int) -> str:
                body = chat(uri, f"word {i}", stream=True)
                answer = await client.post(f"{url}/v1/chat/completions", json=body)
                return answer.text

            return await asyncio.gather(*[one(i) for i in range(24)])

    with gateway(fake.url) as url:
        answers = asyncio.run(all_of_them(url))
    for i, answer in enumerate(answers):
        pieces = [
            json.loads(line.removeprefix("data: "))["choices"]
            for line in answer.split("\n\n")
            if line.startswith("data: {")
        ]
        text = "".join(c["delta"].get("content", "") for choices in pieces for c in choices)
        assert text.endswith(f"asked word {i}")
