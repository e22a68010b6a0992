"""`POST /v1/explain` over the tiny pipeline."""

import base64
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.explain.wire import ExplainRequest
from serving.limits import Limits
from tests.tiny_model import photo, png, tiny_pipeline
from vlm.explain.ablation_trial import Trial
from vlm.explain.explain import Explanation, explain
from vlm.explain.similarity import SharedFeature, Similarity
from vlm.explain.strongest import StrongFeature
from vlm.explain.word_cause import Cause, WordCause
from vlm.explain.words import Decomposition, WeightedWord
from vlm.pipeline import Pipeline

URI = f"data:image/png;base64,{base64.b64encode(png(0)).decode()}"


@pytest.fixture(scope="module")
def tiny() -> Pipeline:
    return tiny_pipeline()


@pytest.fixture
def gateway(tiny: Pipeline, serve: Any) -> Iterator[httpx.Client]:
    with (
        serve(tiny, limits=Limits(max_body_bytes=100_000, max_open=2)) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        yield client


def test_the_answer_is_the_functions(gateway: httpx.Client, tiny: Pipeline) -> None:
    body = {"image": URI, "text": "a dog", "word": "Q", "top": 3}
    answer = gateway.post("/v1/explain", json=body)
    assert answer.status_code == 200, answer.text
    plain = explain(tiny, photo(0), text="a dog", word="Q", top=3).to_json()
    found = answer.json()
    assert list(found) == [field.name for field in fields(Explanation)]
    assert found["features"] == [pytest.approx(each) for each in plain["features"]]
    assert found["similarity"]["cosine"] == pytest.approx(plain["similarity"]["cosine"])
    assert found["word"]["causes"][0]["feature"] == plain["word"]["causes"][0]["feature"]


def test_text_and_word_may_be_left_out(gateway: httpx.Client) -> None:
    found = gateway.post("/v1/explain", json={"image": URI}).json()
    assert len(found["features"]) == 10
    assert (found["similarity"], found["word"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "words", "param", "code"),
    [
        ({"image": None}, "missing", "image", "missing_parameter"),
        ({"image": "http://example.com/a.png"}, "not fetched", "image", "remote_image"),
        ({"image": "data:image/png;base64,AAAA"}, "cannot be read", "image", "invalid_image"),
        ({"image": f"{URI[:-400]}"}, "truncated", "image", "invalid_image"),
        ({"text": ""}, "at least 1 character", "text", "invalid_value"),
        ({"text": "  "}, "text is empty", "text", "invalid_value"),
        ({"text": "a" * 1001}, "at most 1000", "text", "invalid_value"),
        ({"text": 3}, "valid string", "text", "invalid_value"),
        ({"word": ""}, "at least 1 character", "word", "invalid_value"),
        ({"word": "?"}, "expected a word", "word", "invalid_value"),
        ({"word": "a" * 51}, "at most 50", "word", "invalid_value"),
        ({"word": "xqzzt"}, "does not say 'xqzzt'", "word", "word_not_said"),
        ({"word": "<|im_end|>"}, "reserved", "word", "reserved_token"),
        ({"top": 0}, "greater than or equal to 1", "top", "invalid_value"),
        ({"top": 257}, "less than or equal to 256", "top", "invalid_value"),
        ({"wrod": "dog"}, "did you mean word", "wrod", "unknown_parameter"),
    ],
)
def test_bad_requests_are_refused_in_words_by_their_key(
    gateway: httpx.Client, change: dict[str, Any], words: str, param: str, code: str
) -> None:
    answer = gateway.post("/v1/explain", json={"image": URI, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert words in error["message"]


def test_while_a_word_is_explained_other_requests_get_their_turn(
    gateway: httpx.Client, tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    entered = threading.Event()
    answer, encode_texts = tiny.answer, tiny.encoder.encode_texts

    def slow_first_step(texts: list[str]) -> Any:
        entered.set()
        order.append("step")
        return encode_texts(texts)

    def answered(requests: Any, **options: Any) -> Any:
        order.append("answer")
        return answer(requests, **options)

    def explained() -> None:
        gateway.post("/v1/explain", json={"image": URI, "word": "Q"})
        order.append("explained")

    monkeypatch.setattr(tiny.encoder, "encode_texts", slow_first_step)
    monkeypatch.setattr(tiny, "answer", answered)
    thread = threading.Thread(target=explained)
    thread.start()
    entered.wait(60)
    image = {"type": "image_url", "image_url": {"url": URI}}
    chat = {"model": "tiny", "messages": [{"role": "user", "content": [image]}], "max_tokens": 2}
    assert gateway.post("/v1/chat/completions", json=chat).status_code == 200
    thread.join(120)
    assert order == ["step", "answer", "explained"]


def test_an_explanation_counts_among_the_open_requests(
    gateway: httpx.Client, tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, busy = threading.Event(), threading.Event()
    encode = tiny.encode

    def held(images: Any) -> Any:
        busy.set()
        gate.wait(60)
        return encode(images)

    monkeypatch.setattr(tiny, "encode", held)
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(
                gateway.post("/v1/explain", json={"image": URI}).status_code
            )
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    busy.wait(60)
    threads_done = threading.Event()
    while 503 not in answers and not threads_done.wait(0.05):
        if not any(thread.is_alive() for thread in threads):
            threads_done.set()
    gate.set()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [200, 200, 503]


def test_the_schema_has_the_body_and_the_answer(gateway: httpx.Client) -> None:
    route = gateway.get("/openapi.json").json()["paths"]["/v1/explain"]["post"]
    body = route["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"image", "text", "word", "top"}
    answer = route["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["$ref"].endswith("/Explanation")


@pytest.mark.parametrize(
    "kind",
    [
        ExplainRequest, Explanation, StrongFeature, Decomposition, WeightedWord, Similarity,
        SharedFeature, WordCause, Cause, Trial,
    ],
)  # fmt: skip
def test_every_key_is_described_in_the_reference(kind: Any) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"
    section = page.read_text("utf-8").partition("## POST /v1/explain")[2].partition("\n## ")[0]
    keys = kind.model_fields if kind is ExplainRequest else [field.name for field in fields(kind)]
    known = {"share"}  # stands in the table of activations that the section points to
    assert [key for key in keys if key not in known and f"`{key}`" not in section] == []
