"""Two gateways with a model each: any of them may answer, and the other goes on where one ends."""

import base64
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from serving.engines.pool import Pool
from serving.engines.vllm_engine import VllmEngine
from serving.limits import Limits
from tests.tiny_model import png, tiny_pipeline

CHAT = "/v1/chat/completions"
NAME = "tiny-ffffffffffff"  # of the tiny model under vLLM
VLLM = "tests.serving.engines.fake_site.vllm.entrypoints.openai.api_server"
PHOTOS = [png(seed) for seed in range(16)]  # all of one engine's by chance: once in 32768


def test_either_gateway_gives_the_same_answer_and_one_goes_on_alone(serve: Any, uri: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "what"}]
    body = {
        "model": "tiny",
        "max_tokens": 8,
        "messages": [{"role": "user", "content": content}],
        "steering": {"edits": [{"feature": 1, "op": "scale", "value": 2}]},
    }

    def ask(url: str) -> tuple[str, Any]:
        answer = httpx.post(url + CHAT, json=body, timeout=60).raise_for_status().json()
        return answer["choices"][0]["message"]["content"], answer["steering"]["receipt"]

    with serve(tiny_pipeline()) as first:
        with serve(tiny_pipeline()) as second:
            answers = [ask(url) for url in (first, second, first)]
            assert answers[0] == answers[1] == answers[2]
        assert ask(first) == answers[0]


@contextmanager
def gateway(serve: Any, *urls: str) -> Iterator[str]:
    """One with a model of its own, over these vLLM servers."""
    limits = Limits()
    pool = Pool(urls, NAME, None)
    pool.check_all()
    pool.start()
    with serve(
        tiny_pipeline(), limits=limits, engine=lambda worker: VllmEngine(worker, pool, limits)
    ) as url:
        yield url


def soft_tokens(body: dict[str, Any]) -> str:
    (part,) = [p for p in body["messages"][0]["content"] if p["type"] == "prompt_embeds"]
    return str(part["data"])


@pytest.fixture
def start_vllm() -> Any:
    """A stand-in whose answer is the soft tokens that it got."""
    fake = importlib.import_module(VLLM).FakeVllm
    return lambda: fake(NAME, answer=lambda messages, blocks, body: soft_tokens(body))


def ask_each(url: str) -> list[tuple[str, Any]]:
    """The answer and the receipt of each photograph, steered."""
    found = []
    for photo in PHOTOS:
        uri = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": uri}},
            {"type": "text", "text": "what is it?"},
        ]
        body = {
            "model": "tiny",
            "messages": [{"role": "user", "content": content}],
            "steering": {"edits": [{"feature": 1, "op": "scale", "value": 2}]},
        }
        answer = httpx.post(url + CHAT, json=body, timeout=60).raise_for_status().json()
        found.append((answer["choices"][0]["message"]["content"], answer["steering"]["receipt"]))
    return found


def test_a_photograph_has_the_same_engine_whichever_gateway_it_comes_through(
    serve: Any, start_vllm: Any
) -> None:
    with (
        start_vllm() as one,
        start_vllm() as two,
        gateway(serve, one.url, two.url) as first,
        gateway(serve, two.url, one.url) as second,
    ):
        answers = ask_each(first)
        went = [sorted(map(soft_tokens, engine.bodies)) for engine in (one, two)]
        for engine in (one, two):
            engine.bodies.clear()
        assert ask_each(second) == answers
        assert [sorted(map(soft_tokens, engine.bodies)) for engine in (one, two)] == went
    assert len({text for text, _ in answers}) == len(PHOTOS)  # or nothing could be told apart
    assert all(went) and not set(went[0]) & set(went[1])


def test_requests_are_answered_the_same_with_one_engine_and_one_gateway_left(
    serve: Any, start_vllm: Any
) -> None:
    with start_vllm() as one, start_vllm() as two:
        urls = (one.url, two.url)
        with gateway(serve, *urls) as second:
            with gateway(serve, *urls) as first:
                answers = ask_each(first)
                assert two.bodies
                two.__exit__()
                n_one = len(one.bodies)
                assert ask_each(first) == answers
                assert ask_each(second) == answers
                assert len(one.bodies) - n_one == 2 * len(PHOTOS)
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{first}/health")
            assert ask_each(second) == answers
