"""Metrics, log lines, readiness, CORS, and which routes there are at all."""

import json
import logging
import re
from typing import Any

import httpx
import pytest

from serving.app import create_app
from serving.limits import Limits
from serving.logs import set_up_logs
from serving.metrics import Metrics
from serving.observed import Observed
from serving.tracing import find_tracer
from sparse_encoder.errors import SparsightError

CHAT = "/v1/chat/completions"


def body(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **more}


def values(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_count_answers_refusals_and_batches(http: httpx.Client) -> None:
    assert http.post(CHAT, json=body()).status_code == 200
    for _ in range(2):
        assert http.post(CHAT, json=body(nonsense=1)).status_code == 400
    assert http.get("/secret-path").status_code == 404
    text = http.get("/metrics").text
    found = values(text)
    assert found[f'sparsight_requests_total{{method="POST",route="{CHAT}",status="200"}}'] == 1
    assert found['sparsight_refusals_total{reason="unknown_parameter"}'] == 2
    assert found['sparsight_refusals_total{reason="unknown_route"}'] == 1
    assert found["sparsight_batch_size_count"] == 1
    assert found["sparsight_queue_seconds_count"] == 1
    assert found["sparsight_open_requests"] == 0
    assert found["sparsight_ready"] == 1
    assert "secret-path" not in text


def test_a_stream_waits_for_the_model_too(http: httpx.Client) -> None:
    assert http.post(CHAT, json=body(stream=True)).status_code == 200
    assert values(http.get("/metrics").text)["sparsight_queue_seconds_count"] == 1


def test_a_model_tells_of_encoding_caching_edits_and_writing(uri: str) -> None:
    from starlette.testclient import TestClient

    from tests.tiny_model import tiny_pipeline

    pipeline = tiny_pipeline()
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "what"}]
    ask = {"model": "tiny", "max_tokens": 3, "messages": [{"role": "user", "content": content}]}
    with TestClient(create_app(pipeline)) as http:
        for edits in ([], [{"feature": 1, "op": "scale", "value": 2}]):
            assert http.post(CHAT, json={**ask, "steering": {"edits": edits}}).status_code == 200
        found = values(http.get("/metrics").text)
        edits = [{"feature": 1, "op": "clamp", "value": 2, "unit": "raw"}]
        later = [found]
        for _ in range(2):
            assert http.post(CHAT, json={**ask, "steering": {"edits": edits}}).status_code == 200
            later.append(values(http.get("/metrics").text))
    name = 'sparsight_cache_total{cache="%s",result="%s"}'
    hits, misses = ([at[name % ("soft_tokens", r)] for at in later] for r in ("hit", "miss"))
    assert (hits[1] - hits[0], misses[1] - misses[0]) == (0, 1)  # an edit makes other tokens
    assert (hits[2] - hits[1], misses[2] - misses[1]) == (1, 0)  # the same once more does not
    assert found[name % ("codes", "hit")] == 1
    assert name % ("sums", "hit") in found and name % ("texts", "hit") in found
    assert found["sparsight_encode_seconds_count"] == 1
    assert found['sparsight_code_cache_total{result="miss"}'] == 1
    assert found['sparsight_code_cache_total{result="hit"}'] == 1
    assert found['sparsight_edits_total{op="scale"}'] == 1
    assert found["sparsight_llm_seconds_count"] == 2
    assert 2 <= found["sparsight_llm_tokens_total"] <= 6


def test_ready_says_no_while_full_and_why(pipeline: Any, serve: Any) -> None:
    pipeline.gate.clear()
    with serve(pipeline, limits=Limits(max_open=1)) as url:
        with httpx.Client(base_url=url, timeout=60) as http:
            assert http.get("/ready").json() == {"ready": True, "reason": None}
            with pytest.raises(httpx.ReadTimeout):
                http.post(CHAT, json=body(), timeout=0.5)
        # It left, and so its place is free; one that stays holds it.
        import threading

        pipeline.busy.clear()
        thread = threading.Thread(
            target=lambda: httpx.post(url + CHAT, json=body(), timeout=60), daemon=True
        )
        thread.start()
        assert pipeline.busy.wait(60)
        full = httpx.get(f"{url}/ready", timeout=60)
        assert (full.status_code, full.json()["reason"]) == (503, "full")
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200
        pipeline.gate.set()
        thread.join(60)


def test_a_log_line_has_the_id_and_nothing_of_what_was_sent(
    http: httpx.Client, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    set_up_logs("json", "info")
    try:
        content = [
            {"type": "text", "text": "my private words"},
            {"type": "image_url", "image_url": {"url": uri}},
        ]
        ask = {"model": "fake", "messages": [{"role": "user", "content": content}]}
        answer = http.post(
            f"{CHAT}?token=hidden", json=ask, headers={"authorization": "Bearer sk-hidden"}
        )
        http.post(CHAT, json=body("boom"))
        http.get("/v1/features?query=private")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        for name in ("sparsight", "serving", "vlm", "sparse_encoder"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    said = capsys.readouterr().err
    lines = [json.loads(line) for line in said.splitlines()]
    first = next(line for line in lines if line["event"] == "request")
    assert first["request_id"] == answer.headers["x-request-id"]
    assert (first["route"], first["status"], first["level"]) == (CHAT, 200, "info")
    assert any(line.get("reason") == "internal_error" for line in lines)
    for word in ("private", "hidden", uri[30:60]):
        assert word not in said


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/redoc",
        "/v1",
        "/v1/",
        "/v2/chat/completions",
        "/v1/chat/completions/",
        "/metrics/",
        "//health",
        "/health/..",
        "/.env",
        "/v1/completions",
        "/tokenize",
        "/load",
        "/server_info",
    ],
)
def test_what_is_no_route_is_404(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 404, answer.headers
    assert answer.json()["error"]["code"] == "unknown_route"


def test_every_route_is_one_that_the_reference_lists(pipeline: Any) -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/reference/http-api.md").read_text()
    app = create_app(pipeline)
    try:
        schema = app.openapi()["paths"]
    finally:
        app.state.gateway.worker.close()
    for path in [*schema, "/metrics", "/openapi.json"]:
        assert re.sub(r"\{\w+\}", "{id}", path) in page, path


def test_no_page_of_another_origin_may_read_unless_it_is_named(
    pipeline: Any, http: httpx.Client, serve: Any
) -> None:
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    for answer in (http.options(CHAT, headers=asked), http.get("/health", headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control")]
    with serve(pipeline, cors_origins=["https://a.example"]) as url:
        allowed = httpx.get(f"{url}/health", headers=asked, timeout=60).headers
        assert allowed["access-control-allow-origin"] == "https://a.example"
        other = httpx.get(f"{url}/health", headers={"origin": "https://b.example"}, timeout=60)
        assert "access-control-allow-origin" not in other.headers


def test_traces_that_were_asked_for_and_cannot_be_sent_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert find_tracer() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("serving.tracing._installed", lambda package: False)
    with pytest.raises(SparsightError, match="not installed"):
        find_tracer()


def test_a_span_has_the_route_and_the_id(pipeline: Any) -> None:
    from contextlib import contextmanager

    from starlette.testclient import TestClient

    attributes: dict[str, Any] = {}

    class Span:
        def update_name(self, name: str) -> None:
            attributes["name"] = name

        def set_attribute(self, name: str, value: Any) -> None:
            attributes[name] = value

    class Tracer:
        @contextmanager
        def start_as_current_span(self, _: str) -> Any:
            yield Span()

    app = create_app(pipeline)
    with TestClient(Observed(app, Metrics(), Tracer())) as http:
        answer = http.get("/health")
    assert attributes["name"] == "GET /health"
    assert attributes["sparsight.request_id"] == answer.headers["x-request-id"]
