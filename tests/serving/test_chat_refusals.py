"""What the gateway refuses, and with which words."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

URL = "messages[0].content[0].image_url.url"


def with_url(url: Any) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": url}}
    return {"messages": [{"role": "user", "content": [image]}]}


def with_edit(**edit: Any) -> dict[str, Any]:
    return {"steering": {"edits": [edit]}}


def with_part(part: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


TURN = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "hi"}

# What is changed in a good request; words of the message; param; code.
BAD = [
    ({"model": None}, "model is missing", "model", "missing_parameter"),
    ({"messages": None}, "messages is missing", "messages", "missing_parameter"),
    ({"messages": []}, "at least 1 item", "messages", "invalid_value"),
    ({"messages": "hi"}, "valid list", "messages", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "missing", "messages[0].content", "missing_parameter"),
    ({"messages": [{**TURN, "role": "tool"}]}, "'user'", "messages[0].role", "invalid_value"),
    ({"messages": [{**TURN, "name": "x"}]}, "not supported", "messages[0].name",
     "unsupported_parameter"),
    ({"messages": [{**TURN, "nmae": "x"}]}, "unknown", "messages[0].nmae", "unknown_parameter"),
    ({"messages": [{**TURN, "content": 3}]}, "a string or a list", "messages[0].content",
     "invalid_value"),
    ({"messages": [{**TURN, "content": []}]}, "at least 1", "messages[0].content",
     "invalid_value"),
    ({"messages": [SYSTEM]}, "end with a user message", "messages[0].role", "invalid_value"),
    ({"messages": [TURN, SYSTEM, TURN]}, "only the first", "messages[1].role", "invalid_value"),
    ({"messages": [TURN] * 65}, "65 messages, at most 64", "messages", "invalid_value"),
    ({"messages": [{**TURN, "content": "x" * 20_001}]}, "20,001 characters", "messages",
     "invalid_value"),
    (with_part({"type": "input_audio", "input_audio": {}}), "'text' or 'image_url'",
     "messages[0].content[0]", "invalid_value"),
    (with_part({"type": "text"}), "missing", "messages[0].content[0].text", "missing_parameter"),
    (with_part({"type": "text", "text": "a", "txet": "b"}), "did you mean text",
     "messages[0].content[0].txet", "unknown_parameter"),
    (with_url("http://example.com/a.jpg"), "not fetched", URL, "remote_image"),
    (with_url("https://example.com/a.jpg"), "not fetched", URL, "remote_image"),
    (with_url("file:///etc/passwd"), "no data URI", URL, "invalid_image_url"),
    (with_url("data:image/png;base64"), "no comma", URL, "invalid_image_url"),
    (with_url("data:text/html;base64,AAAA"), "text/html", URL, "invalid_image_url"),
    (with_url("data:image/png,AAAA"), "not base64", URL, "invalid_image_url"),
    (with_url("data:image/png;base64,A*A="), "base64", URL, "invalid_image_url"),
    (with_url("data:image/png;base64,\u00e9\u00e9"), "base64", URL, "invalid_image_url"),
    (with_url("data:image/png;base64,AAAA"), "image", URL, None),
    (with_url("data:image/png;base64,"), "image", URL, None),
    (with_url(7), "valid string, got 7", URL, "invalid_value"),
    ({"max_tokens": 0}, "greater than or equal to 1", "max_tokens", "invalid_value"),
    ({"max_tokens": 101}, "at most 100", "max_tokens", "invalid_value"),
    ({"max_completion_tokens": 101}, "at most 100", "max_completion_tokens", "invalid_value"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "the same", "max_tokens", "invalid_value"),
    ({"max_tokens": 1.5}, "integer", "max_tokens", "invalid_value"),
    ({"max_tokens": True}, "integer", "max_tokens", "invalid_value"),
    ({"temperature": -0.1}, "got -0.1", "temperature", "invalid_value"),
    ({"temperature": 2.1}, "less than or equal to 2", "temperature", "invalid_value"),
    ({"temperature": "0"}, 'got "0"', "temperature", "invalid_value"),
    ({"top_p": 0}, "greater than 0", "top_p", "invalid_value"),
    ({"seed": 2**63}, "less than", "seed", "invalid_value"),
    ({"stop": ["a"] * 5}, "at most 4", "stop", "invalid_value"),
    ({"stop": ""}, "at least 1 character", "stop[0]", "invalid_value"),
    ({"n": 9}, "less than or equal to 8, got 9", "n", "invalid_value"),
    ({"n": 0}, "greater than or equal to 1", "n", "invalid_value"),
    ({"stream": "yes"}, "valid boolean", "stream", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "needs stream", "stream_options",
     "invalid_value"),
    ({"tools": [{"type": "function"}]}, "not trained on tools", "tools",
     "unsupported_parameter"),
    ({"tool_choice": "auto"}, "not trained on tools", "tool_choice", "unsupported_parameter"),
    ({"top_k": 40}, "temperature and top_p alone", "top_k", "unsupported_parameter"),
    ({"ignore_eos": True}, "where the model ends it", "ignore_eos", "unsupported_parameter"),
    ({"min_tokens": False}, "not supported", "min_tokens", "unsupported_parameter"),
    ({"guided_json": {}}, "response_format", "guided_json", "unsupported_parameter"),
    ({"prompt_embeds": "AAAA"}, "made here", "prompt_embeds", "unsupported_parameter"),
    ({"top_logprobs": 2}, "needs logprobs", "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "to 20", "top_logprobs", "invalid_value"),
    ({"logprobs": 1}, "valid boolean", "logprobs", "invalid_value"),
    ({"response_format": {"type": "xml"}}, "'json_schema'", "response_format", "invalid_value"),
    ({"response_format": {"type": "json_schema"}}, "missing", "response_format.json_schema",
     "missing_parameter"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "scema": {}}}},
     "did you mean schema", "response_format.json_schema.scema", "unknown_parameter"),
    ({"response_format": {"type": "json_schema", "json_schema": {
        "name": "a", "schema": {"const": "x" * 20_000}}}}, "at most 20,000",
     "response_format.json_schema.schema", "invalid_value"),
    ({"frequency_penalty": 2.5}, "to 2", "frequency_penalty", "invalid_value"),
    ({"logit_bias": {"cat": 1}}, "token ids", "logit_bias", "invalid_value"),
    ({"logit_bias": {"9" * 5000: 1}}, "token ids", "logit_bias", "invalid_value"),
    ({"logit_bias": {"5": 101}}, "to 100", "logit_bias.5", "invalid_value"),
    ({"stering": {}}, "did you mean steering", "stering", "unknown_parameter"),
    ({"steering": []}, "expected an object", "steering", "invalid_value"),
    ({"steering": {"edit": []}}, "edit", "steering.edit", None),
    ({"steering": {"receipt": 1}}, "true or false", "steering.receipt", "invalid_value"),
    (with_edit(concept="dog"), "op", "steering.edits[0].op", None),
    (with_edit(concept="dog", op="clamp", value=9), "limit", "steering.edits[0].value", None),
    (with_edit(concept="dog", op="clamp", value=1e999), "finite", "steering.edits[0].value", None),
    (with_edit(feature=8, op="ablate"), "0..7", "steering.edits[0].feature", None),
    (with_edit(concept="dog", op="ablate", image=1), "image", "steering.edits[0].image", None),
    (with_edit(concept="unicorn", op="ablate"), "unicorn", "steering.edits[0].concept",
     "unknown_concept"),
    ({**with_edit(concept="dog", op="ablate"), "messages": [TURN]}, "without an image", "steering",
     "steering_without_image"),
]  # fmt: skip


@pytest.fixture
def good(uri: str) -> dict[str, Any]:
    return {"model": "fake", **with_url(uri)}


def refusal(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    error: dict[str, Any] = answer.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert len(error["message"]) < 500
    return error


@pytest.mark.parametrize("stream", [False, True])
def test_each_bad_request_is_refused_in_words_and_named_by_its_key(
    http: httpx.Client, good: dict[str, Any], stream: bool
) -> None:
    for change, words, param, code in BAD:
        if stream and "stream_options" in change:
            continue
        body = json.dumps({**good, "stream": stream, **change}).replace("Infinity", "1e999")
        headers = {"content-type": "application/json"}
        error = refusal(http.post("/v1/chat/completions", content=body, headers=headers))
        assert words in error["message"], (change, error)
        assert error["param"] == param, (change, error)
        assert error["type"] == "invalid_request_error"
        assert code is None or error["code"] == code, (change, error)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no valid JSON"),
        (b"{", "line 1, column 2"),
        (b"[]", "no object"),
        (b'{"model": NaN}', "NaN"),
        (b'{"model": "\xff"}', "UTF-8"),
        (b'{"model": "a", "model": "b"}', "'model' comes twice"),
        (b'{"steering": {"edits": [], "edits": []}}', "'edits' comes twice"),
        (b'{"model": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"[" * 50_000, "nested"),
        (b'{"seed": ' + b"1" * 5_000 + b"}", "digits"),
    ],
)
def test_what_is_no_json_object_is_refused(http: httpx.Client, body: bytes, words: str) -> None:
    headers = {"content-type": "application/json"}
    error = refusal(http.post("/v1/chat/completions", content=body, headers=headers))
    assert words in error["message"]


def test_an_emoji_written_as_a_surrogate_pair_is_accepted(http: httpx.Client, uri: str) -> None:
    body = json.dumps({"model": "fake", "messages": [{**TURN, "content": "\U0001f436"}]})
    assert "\\ud83d" in body
    headers = {"content-type": "application/json"}
    answer = http.post("/v1/chat/completions", content=body, headers=headers)
    assert "\U0001f436" in answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_of_another_type_is_refused(
    http: httpx.Client, good: dict[str, Any], kind: str | None
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = http.post("/v1/chat/completions", content=json.dumps(good), headers=headers)
    assert "application/json" in refusal(answer, 415)["message"]


@pytest.mark.parametrize("size", [100_001, 300_000, 5_000_000])
def test_a_body_above_the_limit_is_answered_413(http: httpx.Client, size: int) -> None:
    headers = {"content-type": "application/json"}
    answer = http.post("/v1/chat/completions", content=b" " * size, headers=headers)
    assert "100,000 bytes" in refusal(answer, 413)["message"]


def test_another_model_is_answered_404(http: httpx.Client, good: dict[str, Any]) -> None:
    answer = http.post("/v1/chat/completions", json={**good, "model": "gpt-4o"})
    error = refusal(answer, 404)
    assert "'gpt-4o'" in error["message"] and "'fake'" in error["message"]
    assert (error["param"], error["code"]) == ("model", "model_not_found")


def test_unknown_routes_and_wrong_methods_are_named(http: httpx.Client) -> None:
    assert "GET /v1/nothing" in refusal(http.get("/v1/nothing"), 404)["message"]
    answer = http.get("/v1/chat/completions")
    assert "use POST" in refusal(answer, 405)["message"]
    assert answer.headers["allow"] == "POST"


def test_more_images_than_allowed_are_refused(http: httpx.Client, uri: str) -> None:
    image = {"type": "image_url", "image_url": {"url": uri}}
    body = {"model": "fake", "messages": [{"role": "user", "content": [image] * 9}]}
    error = refusal(http.post("/v1/chat/completions", json=body))
    assert "9 photographs, at most 8" in error["message"]


def test_an_image_in_an_assistant_turn_is_refused(http: httpx.Client, uri: str) -> None:
    image = {"type": "image_url", "image_url": {"url": uri}}
    turns = [TURN, {"role": "assistant", "content": [image]}, TURN]
    error = refusal(http.post("/v1/chat/completions", json={"model": "fake", "messages": turns}))
    assert error["param"] == "messages[1].content[0]"


def test_a_truncated_photograph_is_refused(
    http: httpx.Client, as_uri: Callable[[bytes], str], photo: Callable[..., bytes]
) -> None:
    body = {"model": "fake", **with_url(as_uri(photo(kind="JPEG")[:-200]))}
    error = refusal(http.post("/v1/chat/completions", json=body))
    assert error["param"] == URL
