"""The gateway handed on to a page elsewhere, as `sparsight demo` does it."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from serving.cli.main import main
from serving.relay import MAX_BODY_BYTES, create_relay, read_api_url
from sparse_encoder.errors import SparsightError

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "what is this?"}]}


@pytest.fixture
def relay(url: str) -> Iterator[TestClient]:
    with TestClient(create_relay(url)) as client:
        yield client


def test_answers_are_the_gateways_own(relay: TestClient, url: str) -> None:
    for path in ("/v1/models", "/v1/features?query=dog&limit=1", "/v1/features/1", "/health"):
        theirs = httpx.get(url + path).json()
        assert relay.get(path).json() == theirs, path
    answer = relay.post("/v1/chat/completions", json=CHAT)
    assert "asked what is this?" in answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-request-id"]


def test_a_stream_is_a_stream(relay: TestClient) -> None:
    answer = relay.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count("data:") > 3 and answer.text.rstrip().endswith("[DONE]")


def test_refusals_keep_their_status_and_words(relay: TestClient) -> None:
    answer = relay.post("/v1/chat/completions", json={**CHAT, "model": "other"})
    assert answer.status_code == 404
    assert "other" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/files", 404),
        ("GET", "/metrics", 404),
        ("POST", "/v1/embeddings", 404),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/features/1/2", 404),
    ],
)
def test_what_pages_do_not_ask_for_is_not_handed_on(
    relay: TestClient, method: str, path: str, status: int
) -> None:
    answer = relay.request(method, path)
    assert answer.status_code == status and answer.json()["error"]["message"]


def test_a_gateway_that_is_not_there_is_named() -> None:
    with TestClient(create_relay("http://127.0.0.1:9")) as relay:
        answer = relay.get("/v1/models")
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "gateway_gone"
    assert "127.0.0.1:9" in answer.json()["error"]["message"]


def test_the_key_is_added_and_a_clients_own_headers_are_not_handed_on() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={}, headers={"set-cookie": "a=b"})

    app = create_relay("http://far/v1", key="sk-1", transport=httpx.MockTransport(answer))
    with TestClient(app) as relay:
        got = relay.get("/v1/models", headers={"cookie": "c=d", "authorization": "Bearer mine"})
    assert seen[0].headers["authorization"] == "Bearer sk-1" and "cookie" not in seen[0].headers
    assert str(seen[0].url) == "http://far/v1/models" and "set-cookie" not in got.headers


def test_a_body_that_is_too_large_is_refused_here(relay: TestClient) -> None:
    answer = relay.post("/v1/explain", content=bytes(MAX_BODY_BYTES + 1))
    assert answer.status_code == 413 and "32 MiB" in answer.json()["error"]["message"]


def test_a_client_that_leaves_ends_its_answer_at_the_gateway(
    url: str, pipeline: Any, serve_relay: Any
) -> None:
    pipeline.pause_s = 0.05
    body = {**CHAT, "stream": True, "messages": [{"role": "user", "content": "word " * 200}]}

    async def leave(address: str) -> None:
        async with (
            httpx.AsyncClient(base_url=address, timeout=30) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as got,
        ):
            async for line in got.aiter_lines():
                if line:
                    return

    with serve_relay(create_relay(url)) as address:
        asyncio.run(leave(address))
        until = time.monotonic() + 5  # the whole answer would take ten seconds
        while not pipeline.closed_streams and time.monotonic() < until:
            time.sleep(0.02)
    assert pipeline.closed_streams == 1


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://a:1", "http://a:1"),
        ("https://a/v1/", "https://a"),
        ("http://a/under/v1", "http://a/under"),
    ],
)
def test_an_address_is_read_with_or_without_its_version(text: str, base: str) -> None:
    assert read_api_url(text) == base


@pytest.mark.parametrize("text", ["", "a:1", "ftp://a", "http://", "http://u:p@a", "http://a?b=c"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SparsightError, match="is no address of a gateway"):
        read_api_url(text)


def test_the_command_says_what_is_no_address_before_anything_is_served() -> None:
    done = CliRunner().invoke(main, ["demo", "--api", "gpu-box"])
    assert done.exit_code == 1 and "'gpu-box' is no address of a gateway" in done.output
