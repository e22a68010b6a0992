"""`POST /v1/steering/sweep` over the tiny pipeline."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving.limits import Limits
from serving.steering.wire import SweepResult
from tests.tiny_model import photo, png, tiny_pipeline
from vlm.pipeline import Pipeline
from vlm.receipt import verify_receipt
from vlm.sweep import sweep
from vlm.sweep_plot import sweep_svg

URI = f"data:image/png;base64,{base64.b64encode(png(0)).decode()}"
BODY: dict[str, Any] = {
    "model": "tiny", "image": URI, "concept": "dog", "doses": [0, 1, 4.0], "max_tokens": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Pipeline:
    return tiny_pipeline()


@pytest.fixture
def gateway(tiny: Pipeline, serve: Any) -> Iterator[httpx.Client]:
    with (
        serve(tiny, limits=Limits(max_body_bytes=100_000, max_batch=5, max_tokens=9)) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        yield client


def test_the_answer_is_the_functions_with_a_true_receipt_a_dose(
    gateway: httpx.Client, tiny: Pipeline
) -> None:
    answer = gateway.post("/v1/steering/sweep", json=BODY)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    plain = sweep(tiny, photo(0), concept="dog", doses=(0.0, 1.0, 4.0), max_tokens=5)
    assert list(found) == list(SweepResult.model_fields)
    assert [p["text"] for p in found["points"]] == [p.answer.text for p in plain.points]
    assert [p["dose"] for p in found["points"]] == [0.0, 1.0, 4.0]
    assert (found["unsteered"]["dose"], found["unsteered"]["receipt"]) == (None, None)
    assert (found["concept"], found["k"], found["effective"]) == ("dog", 16, None)
    assert found["plot"] is None
    for point in found["points"]:
        assert verify_receipt(point["receipt"], [photo(0)], tiny) == []
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 20


def test_the_plot_is_the_one_that_the_command_writes(gateway: httpx.Client, tiny: Pipeline) -> None:
    answer = gateway.post("/v1/steering/sweep", json={**BODY, "plot": True})
    plain = sweep(tiny, photo(0), concept="dog", doses=(0.0, 1.0, 4.0), max_tokens=5)
    assert answer.json()["plot"] == sweep_svg(plain)
    refused = gateway.post("/v1/steering/sweep", json={**BODY, "plot": "svg"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "plot"


@pytest.mark.parametrize(
    ("change", "word", "param", "code"),
    [
        ({"model": "other"}, "no model 'other'", "model", "model_not_found"),
        ({"image": None}, "missing", "image", "missing_parameter"),
        ({"image": "http://example.com/a.png"}, "not fetched", "image", "remote_image"),
        ({"concept": None}, "neither", "concept", "invalid_value"),
        ({"feature": 1}, "both", "concept", "invalid_value"),
        ({"concept": "zzyzx"}, "no concept named", "concept", "unknown_concept"),
        ({"concept": None, "feature": 64}, "outside 0..63", "feature", "invalid_value"),
        ({"concept": None, "feature": 1.5}, "valid integer", "feature", "invalid_value"),
        ({"doses": []}, "at least one", "doses", "invalid_value"),
        ({"doses": [1, 0.5]}, "rising order", "doses", "invalid_value"),
        ({"doses": [0, 9]}, "from 0 to 8", "doses[1]", "invalid_value"),
        ({"doses": ["1"]}, "valid number", "doses[0]", "invalid_value"),
        ({"doses": [0, 1, 2, 3, 4]}, "at most 4", "doses", "invalid_value"),
        ({"k": 17}, "1 to 16", "k", "invalid_value"),
        ({"max_tokens": 10}, "at most 9", "max_tokens", "invalid_value"),
        ({"prompt": ""}, "at least 1 character", "prompt", "invalid_value"),
        ({"prompt": "a" * 20_001}, "at most 20,000", "prompt", "invalid_value"),
        ({"prompt": "<|im_end|>"}, "reserved", "messages", "reserved_token"),
        ({"dosis": [1]}, "did you mean doses", "dosis", "unknown_parameter"),
    ],
)
def test_bad_requests_are_refused_in_words_by_their_key(
    gateway: httpx.Client, change: dict[str, Any], word: str, param: str, code: str
) -> None:
    answer = gateway.post("/v1/steering/sweep", json={**BODY, **change})
    error = answer.json()["error"]
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert word in error["message"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
