"""Clients that leave, bodies that do not come, answers that take too long; on a live server."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from serving.limits import Limits

CHAT = "/v1/chat/completions"


def body(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **more}


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def post(sock: socket.socket, content: dict[str, Any]) -> None:
    data = json.dumps(content).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    sock.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def n_open(http: httpx.Client) -> int:
    return int(http.get("/health").json()["open_requests"])


def test_generation_stops_when_the_client_of_a_whole_answer_leaves(
    pipeline: Any, url: str, http: httpx.Client
) -> None:
    pipeline.gate.clear()  # the language model is at it
    with connect(url) as sock:
        post(sock, body())
        wait_for(pipeline.busy.is_set)
    wait_for(lambda: pipeline.stopped == 1)
    wait_for(lambda: n_open(http) == 0)
    assert "sparsight_departures_total 1.0" in http.get("/metrics").text
    pipeline.gate.set()
    assert http.post(CHAT, json=body()).status_code == 200


def test_a_stream_ends_when_its_client_leaves(pipeline: Any, url: str, http: httpx.Client) -> None:
    pipeline.pause_s = 0.02
    with connect(url) as sock:
        post(sock, body("w " * 5000, stream=True, max_tokens=100))
        assert b"200 OK" in sock.recv(100)
    wait_for(lambda: pipeline.closed_streams == 1)
    assert n_open(http) == 0
    assert len(pipeline.order) < 100  # pieces, of 100


def test_an_answer_that_takes_too_long_is_given_up(pipeline: Any, serve: Any) -> None:
    with (
        serve(pipeline, limits=Limits(deadline_s=1)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        pipeline.gate.clear()
        late = http.post(CHAT, json=body())
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        wait_for(lambda: pipeline.stopped == 1)
        pipeline.gate.set()
        pipeline.pause_s = 0.3
        said = http.post(CHAT, json=body("w " * 100, stream=True)).text
        *_, last = [line for line in said.splitlines() if line]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
        wait_for(lambda: pipeline.closed_streams == 1)


def test_a_body_that_does_not_come_gives_its_place_back(pipeline: Any, serve: Any) -> None:
    with serve(pipeline, limits=Limits(body_s=1)) as url, connect(url) as sock:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        sock.sendall(f'{head}content-length: 100\r\n\r\n{{"mod'.encode())
        answer = b"".join(iter(lambda: sock.recv(10_000), b""))  # until the server closes
        assert b"408" in answer.split(b"\r\n")[0]
        assert b"body_timeout" in answer


def test_readers_that_do_not_read_hold_up_nobody(
    pipeline: Any, url: str, http: httpx.Client
) -> None:
    readers = [connect(url) for _ in range(20)]
    try:
        for sock in readers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            post(sock, body("w " * 9000, stream=True, max_tokens=100))
        began = time.monotonic()
        wait_for(lambda: pipeline.closed_streams == 20)
        assert http.post(CHAT, json=body()).status_code == 200
        assert n_open(http) == 0  # what was made lies in the sockets, not in the worker
        assert time.monotonic() - began < 30
    finally:
        for sock in readers:
            sock.close()
