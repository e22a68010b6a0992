"""The server's benchmark: what it sends, what it counts, what it calls met."""

import asyncio
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from bench.serve.figures import tokens_per_s
from bench.serve.load import Job, Round, run_load, send_all
from bench.serve.photographs import Photographs
from bench.serve.plain_loop import plain_app
from bench.serve.report import table, throughput_bars, to_json
from bench.serve.servers import Server, started
from bench.serve.single import encodings_of_edits, receipt_ms, sweep_against_requests
from bench.serve.traffic import Traffic, words_for
from bench.serve.variants import LOOP, TRANSFORMERS, Measurement, Rounds, Sizes, variants_of
from serving.app import create_app
from serving.launch import address, bind
from serving.limits import Limits
from tests.tiny_model import photo, png, tiny_pipeline


@contextmanager
def live(app: Any) -> Iterator[Server]:
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Server(address(bound), (os.getpid(),))
    finally:
        server.should_exit = True
        thread.join(10)
        bound.close()


def send(job: Job) -> Round:
    return asyncio.run(send_all(job))


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    """A gateway and a plain loop over the tiny model, each with one of its own."""
    with (
        live(create_app(tiny_pipeline(), limits=Limits(max_open=200))) as own,
        live(plain_app(tiny_pipeline())) as loop,
    ):
        yield {TRANSFORMERS: own, LOOP: loop}


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    """One, so that what is cold is cold for the servers of all tests."""
    return Traffic("tiny", Photographs([png(i, (48, 40)) for i in range(3)]), 5, 2)


def test_all_variants_answer_with_the_same_lengths_and_give_figures_and_bars(
    servers: dict[str, Server], traffic: Traffic
) -> None:
    sizes = Sizes(n_turns=2, n_requests=8, n_streams=3, n_loop=4, at_once=4, rate=50)
    measurement = Measurement(servers, traffic, sizes, send)
    n_prompt = measurement.prepare()
    results = {v: Rounds() for v in variants_of(servers, [1, 16])}
    order = []
    for turn, variant, kind, done in measurement.run(list(results)):
        getattr(results[variant], kind).append(done)
        order.append((turn, variant.name))
        for one in done.answers:
            assert (one.status, one.n_prompt, one.n_tokens) == (200, n_prompt, 5)
    names = [v.name for v in results]
    assert names == [
        "transformers, unsteered", "transformers, steered, 1 edits",
        "transformers, steered, 16 edits", "plain loop, steered, 16 edits",
    ]  # fmt: skip
    firsts = [name for i, (_, name) in enumerate(order) if i % 3 == 0]
    assert firsts == [*names, *names[::-1]]  # to and fro
    for rounds in results.values():
        assert [len(r.answers) for r in rounds.cold] == [3, 3]
    bars = throughput_bars(results, 4)
    assert len(bars) == 3 and all(bar.measured > 0 for bar in bars)
    rows = table(results, 4, 50).splitlines()
    assert len(rows) == 2 + 4 * 3 and len({row.count("|") for row in rows}) == 1
    data = to_json(results, bars, {"model": "tiny"}, {})
    assert len(json.loads(json.dumps(data))["variants"]) == 4


def test_streams_have_a_time_for_each_piece(servers: dict[str, Server], traffic: Traffic) -> None:
    bodies = traffic.unsteered(2, stream=True)
    done = send(Job(servers[TRANSFORMERS].chat, bodies, rate=100))
    for one in done.answers:
        assert 0 < one.first_s <= one.end_s <= done.wall_s + 0.1
        assert one.first_s + sum(one.gaps_s) <= one.end_s
        assert len(one.gaps_s) <= one.n_tokens - 1


def test_the_plain_loop_says_what_the_gateway_says(
    servers: dict[str, Server], traffic: Traffic
) -> None:
    import httpx

    for body in traffic.steered(1, 1, 0, stream=False) + traffic.unsteered(1, stream=False):
        texts = [
            httpx.post(server.chat, json=body, timeout=60).json()["choices"][0]["message"]
            for server in servers.values()
        ]
        assert texts[0]["content"] == texts[1]["content"]


def test_a_second_edit_of_a_photograph_is_counted_to_need_no_encoding(
    servers: dict[str, Server], traffic: Traffic
) -> None:
    assert encodings_of_edits(servers[TRANSFORMERS], traffic, n=3) == (1, 0)


def test_a_sweep_is_timed_against_the_same_answers(
    servers: dict[str, Server], traffic: Traffic
) -> None:
    ratio, sweeps, singles = sweep_against_requests(servers[TRANSFORMERS], traffic, 2)
    assert len(sweeps) == len(singles) == ratio.n == 2
    assert ratio.value == pytest.approx(
        math.sqrt(sweeps[0] * sweeps[1] / (singles[0] * singles[1]))
    )


def test_a_receipt_is_timed() -> None:
    median, late = receipt_ms(tiny_pipeline(), photo(1), n=5)
    assert 0 < median <= late


def test_requests_leave_when_they_are_due_however_slow_the_answers_are() -> None:
    """Open loop: a server that answers one after the other makes the later ones wait, from due on."""
    app, lock, arrived = FastAPI(), asyncio.Lock(), []

    @app.post("/v1/chat/completions")
    async def slow() -> dict[str, Any]:
        arrived.append(time.perf_counter())
        async with lock:
            await asyncio.sleep(0.2)
        return {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    with live(app) as server:
        done = send(Job(server.chat, [{}] * 6, rate=1000))
    assert max(arrived) - min(arrived) < 0.2  # none waited for an answer
    ends = sorted(one.end_s for one in done.answers)
    assert ends[-1] > 1.0 and ends[0] < 1.0
    assert [one.first_s for one in done.answers] == [one.end_s for one in done.answers]


def test_so_many_are_under_way_at_once_and_no_more() -> None:
    app, here, most = FastAPI(), 0, 0

    @app.post("/v1/chat/completions")
    async def count() -> dict[str, Any]:
        nonlocal here, most
        here += 1
        most = max(most, here)
        await asyncio.sleep(0.02)
        here -= 1
        return {}

    with live(app) as server:
        send(Job(server.chat, [{}] * 12, at_once=3))
    assert most == 3


@pytest.mark.parametrize("how", ["refused", "cut", "no json", "event"])
def test_what_is_no_whole_answer_is_not_counted_as_one(how: str) -> None:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def bad() -> Any:
        if how == "refused":
            return JSONResponse({"error": {}}, 503)
        if how == "no json":
            return StreamingResponse(iter(["what"]))
        event = {"choices": [{"delta": {"content": "a"}}]}
        lines = [f"data: {json.dumps(event)}\n\n"]
        if how == "event":
            lines.append('data: {"error": {"message": "broke off"}}\n\n')
        return StreamingResponse(iter(lines), media_type="text/event-stream")

    with live(app) as server:
        (one,) = send(Job(server.chat, [{"stream": True}], at_once=1)).answers
    assert one.status == (503 if how == "refused" else 0)
    with pytest.raises(RuntimeError, match="status"):
        tokens_per_s(Round([one], 1.0, 0.0, 0.0))


def test_the_load_is_a_process_of_its_own_and_counts_the_servers_time() -> None:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def busy(request: Request) -> dict[str, Any]:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        return {"usage": {"prompt_tokens": 1, "completion_tokens": request.client.port}}  # type: ignore[union-attr]

    with live(app) as server:
        done = run_load(Job(server.chat, [{}] * 3, at_once=1, pids=[os.getpid()]))
        assert done.cpu_s >= 0.25  # three times 0.1, in ticks
        with pytest.raises(RuntimeError, match="load process"):
            run_load(Job(server.chat, None, at_once=1))  # type: ignore[arg-type]
    assert {one.status for one in done.answers} == {200}


def test_text_is_found_of_as_many_tokens_as_a_prompt_has(traffic: Traffic) -> None:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def count(request: Request) -> dict[str, Any]:
        assert request.headers["authorization"] == "Bearer x"
        words = (await request.json())["messages"][0]["content"].split()
        return {"usage": {"prompt_tokens": 9 + len(words)}}

    with live(app) as server:
        assert words_for(server.chat, {"authorization": "Bearer x"}, traffic, 50) == 41
        with pytest.raises(RuntimeError, match="no text has 5 "):
            words_for(server.chat, {"authorization": "Bearer x"}, traffic, 5)


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="not come up: that is why"),
        started(["-c", "import sys; sys.exit('that is why')"], tmp_path / "log"),
    ):
        pass


def test_a_server_is_ended_and_its_address_read(tmp_path: Path) -> None:
    code = "import sys, time; sys.stderr.write('API:  http://127.0.0.1:9/v1\\n'); sys.stderr.flush(); time.sleep(600)"
    with started(["-c", code], tmp_path / "log") as server:
        assert server.chat == "http://127.0.0.1:9/v1/chat/completions"
        (pid,) = server.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
