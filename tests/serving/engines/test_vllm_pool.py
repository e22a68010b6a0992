"""Several vLLM servers: who gets a request, who is taken out, who comes back."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engines.pool import Pool
from serving.engines.replica import SLACK, Replica, choose
from sparse_encoder.errors import SparsightError

NAME = "tiny-ffffffffffff"


def until(true: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def ask(url: str, uri: str) -> httpx.Response:
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "what?"}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)


@given(
    open_=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=6),
    images=st.text(max_size=4),
)
def test_a_server_that_is_down_or_much_busier_than_another_is_never_chosen(
    open_: list[tuple[int, bool]], images: str
) -> None:
    servers = [Replica(f"http://s{i}", up=up, n_open=n) for i, (n, up) in enumerate(open_)]
    chosen = choose(servers, images)
    up = [server for server in servers if server.up]
    assert (chosen is None) == (not up)
    if chosen is not None:
        assert chosen.up
        assert chosen.n_open < min(server.n_open for server in up) + (SLACK if images else 1)


def test_an_image_keeps_its_server_when_another_one_leaves() -> None:
    servers = [Replica(f"http://s{i}", up=True) for i in range(4)]
    images = [f"{i:064x}" for i in range(64)]
    before = {image: choose(servers, image) for image in images}
    servers[0].up = False
    for image in images:
        if before[image] is not servers[0]:
            assert choose(servers, image) is before[image]
    assert len({id(server) for server in before.values()}) == 4


def test_the_same_image_goes_to_the_same_server(
    gateway: Any, start_fake: Any, as_uri: Any, picture: Any
) -> None:
    # As many as it takes for chance to leave neither server out.
    uris = [as_uri(picture(seed)) for seed in range(16)]
    with start_fake() as one, start_fake() as two, gateway(one.url, two.url) as url:
        for uri in uris * 2:
            assert ask(url, uri).status_code == 200
        sent = [
            {body["messages"][0]["content"][0]["data"] for body in server.bodies}
            for server in (one, two)
        ]
    assert not sent[0] & sent[1]
    assert len(sent[0]) + len(sent[1]) == 16 and sent[0] and sent[1]


def test_a_server_that_dies_is_taken_out_and_comes_back(
    gateway: Any, start_fake: Any, as_uri: Any, picture: Any
) -> None:
    # As many as it takes for chance to leave neither server out.
    uris = [as_uri(picture(seed)) for seed in range(16)]
    with start_fake() as one:
        two = start_fake()
        port = two.server_address[1]
        two.__enter__()
        with gateway(one.url, two.url) as url:
            assert {ask(url, uri).status_code for uri in uris} == {200}
            n_two = len(two.bodies)
            assert n_two
            two.__exit__()
            # Each is answered at once: a failed connection is tried on the other server.
            assert {ask(url, uri).status_code for uri in uris} == {200}
            with start_fake(port=port) as back:
                assert until(lambda: bool(ask(url, uris[0])) and _asks(url, uris, back))
                assert len({b["messages"][0]["content"][0]["data"] for b in back.bodies}) == n_two


def _asks(url: str, uris: list[str], back: Any) -> bool:
    for uri in uris:
        ask(url, uri)
    return bool(back.bodies)


def test_without_a_server_the_answer_is_503_with_retry_after_until_one_is_back(
    gateway: Any, start_fake: Any, uri: str
) -> None:
    fake = start_fake()
    port = fake.server_address[1]
    fake.__enter__()
    with gateway(fake.url) as url:
        assert ask(url, uri).status_code == 200
        fake.__exit__()
        answer = ask(url, uri)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        health, ready = (httpx.get(f"{url}/{probe}") for probe in ("health", "ready"))
        # No new process is needed, but no request can be answered either.
        assert (health.status_code, health.json()["status"]) == (200, "engine down")
        assert (ready.status_code, ready.json()["reason"]) == (503, "engine down")
        with start_fake(port=port):
            assert until(lambda: ask(url, uri).status_code == 200)
            assert httpx.get(f"{url}/ready").status_code == 200
            assert httpx.get(f"{url}/health").json()["status"] == "ok"


def test_an_unhealthy_server_gets_no_requests(gateway: Any, start_fake: Any, uri: str) -> None:
    with start_fake() as fake, gateway(fake.url) as url:
        fake.health = 503
        assert until(lambda: ask(url, uri).status_code == 503)


@pytest.mark.parametrize(
    ("model", "key", "word"),
    [
        ("another-model", None, "expected another-model"),
        (NAME, "wrong", "API key"),
    ],
)
def test_a_server_that_is_not_ours_to_use_is_not_used(
    start_fake: Any, model: str, key: str | None, word: str
) -> None:
    with start_fake(key="right") as fake:
        fake.key = None if key is None else "right"
        pool = Pool([fake.url], model, key)
        pool.check_all()
        assert not pool.any_up
        assert word in pool.why_down()
        pool.close()


@pytest.mark.parametrize("url", ["", "here", "ftp://host", "http://", "http://h?x=1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SparsightError, match="address"):
        Pool([url], NAME, None)


def test_the_address_may_end_as_openai_clients_have_it(start_fake: Any) -> None:
    with start_fake() as fake:
        pool = Pool([f"{fake.url}/v1/"], NAME, None)
        pool.check_all()
        assert pool.any_up
        pool.close()
