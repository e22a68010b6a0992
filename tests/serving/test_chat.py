"""The chat endpoint as OpenAI's own client sees it."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from serving.chat.fields import IGNORED, REFUSED
from serving.chat.wire import ChatRequest

EDITS = [{"concept": "dog", "op": "ablate"}, {"concept": "cat", "op": "clamp", "value": 1.0}]


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def turn(uri: str, *, n: int = 1, text: str = "what?") -> dict[str, Any]:
    images = [{"type": "image_url", "image_url": {"url": uri}} for _ in range(n)]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


def test_a_plain_question_is_answered_without_a_steering_object(
    client: openai.OpenAI, uri: str
) -> None:
    answer = client.chat.completions.create(model="fake", messages=[turn(uri)])
    assert answer.choices[0].message.content == "1 photos, no edits, asked what?"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 13)
    assert answer.system_fingerprint == "f" * 64
    assert "steering" not in answer.model_extra


def test_edits_reach_the_pipeline_and_the_receipt_comes_back(
    client: openai.OpenAI, uri: str
) -> None:
    answer = client.chat.completions.create(
        model="fake", messages=[turn(uri)], extra_body={"steering": {"edits": EDITS}}
    )
    assert answer.choices[0].message.content.startswith("1 photos, ablate dog, clamp cat")
    assert answer.steering["receipt"]["steering"]["edits"] == EDITS


@pytest.mark.parametrize(
    ("steering", "has_receipt"),
    [
        ({"receipt": True}, True),
        ({"edits": EDITS, "receipt": False}, False),
        ({"edits": []}, False),
        ({}, False),
    ],
)
def test_the_receipt_comes_where_it_is_asked_for(
    client: openai.OpenAI, uri: str, steering: dict[str, Any], has_receipt: bool
) -> None:
    answer = client.chat.completions.create(
        model="fake", messages=[turn(uri)], extra_body={"steering": steering}
    )
    assert ("steering" in answer.model_extra) == has_receipt


def test_a_stream_gives_the_same_text_and_ends_with_the_receipt(
    client: openai.OpenAI, uri: str
) -> None:
    body = {"model": "fake", "messages": [turn(uri)]}
    steering = {"steering": {"edits": EDITS}}
    whole = client.chat.completions.create(**body, extra_body=steering)
    chunks = list(client.chat.completions.create(**body, stream=True, extra_body=steering))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert chunks[-1].steering == whole.steering
    assert all("steering" not in chunk.model_extra for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(client: openai.OpenAI, uri: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model="fake",
            messages=[turn(uri)],
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"steering": {"receipt": True}},
        )
    )
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 6
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].steering["receipt"]["fingerprint"] == "f" * 64


def test_a_stream_is_server_sent_events_that_end_with_done(http: httpx.Client, uri: str) -> None:
    body = {"model": "fake", "messages": [turn(uri)], "stream": True}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    first = json.loads(events[0].removeprefix("data: "))
    assert first["choices"][0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }


def test_all_turns_and_settings_reach_the_pipeline_in_order(
    client: openai.OpenAI, uri: str, pipeline: Any
) -> None:
    first = client.chat.completions.create(
        model="fake",
        messages=[{"role": "system", "content": "be short"}, turn(uri, n=2, text="who?")],
    )
    client.chat.completions.create(
        model="fake",
        messages=[
            {"role": "developer", "content": "be short"},
            turn(uri, n=2, text="who?"),
            first.choices[0].message.to_dict(),  # as it came, with its nulls
            {"role": "user", "content": "and where?"},
        ],
        max_completion_tokens=5,
        temperature=0.5,
        top_p=0.9,
        seed=-3,
        stop="\n",
        user="someone",
        n=1,
    )
    request = pipeline.requests[-1]
    assert [message.role for message in request.messages] == [
        "system", "user", "assistant", "user",
    ]  # fmt: skip
    kinds = [type(part).__name__ for part in request.messages[1].parts]
    assert kinds == ["ImagePart", "ImagePart", "TextPart"]
    assert request.messages[2].parts[0].text == first.choices[0].message.content
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (5, 0.5, 0.9)
    assert (sampling.seed, sampling.stop) == (-3, ("\n",))


def test_an_answer_at_the_token_limit_says_so(client: openai.OpenAI, uri: str) -> None:
    answer = client.chat.completions.create(model="fake", messages=[turn(uri)], max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


def test_values_that_ask_for_nothing_are_accepted(client: openai.OpenAI, uri: str) -> None:
    client.chat.completions.create(
        model="fake",
        messages=[turn(uri)],
        frequency_penalty=0,
        presence_penalty=0,
        logprobs=False,
        response_format={"type": "text"},
        store=True,
        metadata={"a": "b"},
        service_tier="flex",
        extra_body={"tools": None, "temperature": None, "steering": None, "top_k": -1},
    )


def test_every_field_of_the_openai_client_is_served_read_past_or_refused_with_a_reason() -> None:
    known = {*ChatRequest.model_fields, *IGNORED, *REFUSED}
    assert set(CompletionCreateParamsBase.__annotations__) - known == set()
    assert len(known) == len(ChatRequest.model_fields) + len(IGNORED) + len(REFUSED)
    assert all(reason for _, reason in REFUSED.values())


def test_each_detail_of_a_photograph_is_accepted(client: openai.OpenAI, uri: str) -> None:
    for detail in ("auto", "low", "high"):
        part = {"type": "image_url", "image_url": {"url": uri, "detail": detail}}
        client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": [part, turn(uri)["content"][1]]}]
        )


def test_several_answers_have_seeds_of_their_own_and_one_count_of_the_prompt(
    client: openai.OpenAI, uri: str, pipeline: Any
) -> None:
    answer = client.chat.completions.create(
        model="fake", messages=[turn(uri)], n=3, seed=5, extra_body={"steering": {"edits": EDITS}}
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert sorted(request.sampling.seed for request in pipeline.requests) == [5, 6, 7]
    assert all("ablate dog" in choice.message.content for choice in answer.choices)
    one = answer.usage.completion_tokens // 3
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 7 + 3 * one)


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_stream_of_several_answers_holds_each_whole(
    client: openai.OpenAI, uri: str, pipeline: Any, with_usage: bool
) -> None:
    chunks = list(
        client.chat.completions.create(
            model="fake",
            messages=[turn(uri)],
            n=3,
            stream=True,
            stream_options={"include_usage": with_usage},
            extra_body={"steering": {"edits": EDITS}},
        )
    )
    texts, ends = ["", "", ""], []
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
    assert texts == ["1 photos, ablate dog, clamp cat, asked what?"] * 3
    assert sorted(ends) == [0, 1, 2]
    assert ["steering" in chunk.model_extra for chunk in chunks].index(True) == len(chunks) - 1
    assert not with_usage or chunks[-1].usage.completion_tokens == 24
    assert pipeline.closed_streams == 3


def test_the_settings_of_a_draw_reach_the_pipeline(
    client: openai.OpenAI, uri: str, pipeline: Any
) -> None:
    schema = {"type": "object", "properties": {"animal": {"type": "string"}}}
    client.chat.completions.create(
        model="fake",
        messages=[turn(uri)],
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={"11": -100},
        logprobs=True,
        top_logprobs=2,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    )
    sampling = pipeline.requests[-1].sampling
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.5, -0.5)
    assert (sampling.logit_bias, sampling.top_logprobs) == (((11, -100.0),), 2)
    assert json.loads(sampling.json_schema) == schema


def test_the_asynchronous_client_gets_the_same_answer_whole_and_streamed(
    client: openai.OpenAI, url: str, uri: str
) -> None:
    body = {"model": "fake", "messages": [turn(uri)], "extra_body": {"steering": {"edits": EDITS}}}
    expected = client.chat.completions.create(**body).choices[0].message.content

    async def run() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            whole = await client.chat.completions.create(**body)
            text = ""
            async for chunk in await client.chat.completions.create(**body, stream=True):
                text += chunk.choices[0].delta.content or ""
            return whole.choices[0].message.content, text

    assert asyncio.run(run()) == (expected, expected)


def test_a_refusal_before_the_first_piece_has_its_proper_status(
    client: openai.OpenAI, uri: str
) -> None:
    with pytest.raises(openai.BadRequestError, match="unicorn") as caught:
        client.chat.completions.create(
            model="fake",
            messages=[turn(uri)],
            stream=True,
            extra_body={"steering": {"edits": [{"concept": "unicorn", "op": "ablate"}]}},
        )
    assert caught.value.code == "unknown_concept"


def test_a_fault_inside_a_stream_reaches_the_client_without_our_words_for_it(
    client: openai.OpenAI, uri: str
) -> None:
    stream = client.chat.completions.create(
        model="fake", messages=[turn(uri, text="crack")], stream=True
    )
    with pytest.raises(openai.APIError, match="req_") as caught:
        list(stream)
    assert "secret" not in str(caught.value)


def test_a_fault_inside_is_a_500_with_a_request_id_and_no_traceback(
    http: httpx.Client, uri: str
) -> None:
    body = {"model": "fake", "messages": [turn(uri, text="boom")]}
    answer = http.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] in error["message"]
    assert "secret" not in answer.text and "Traceback" not in answer.text


def test_a_client_that_leaves_ends_the_work_on_its_stream(
    client: openai.OpenAI, uri: str, pipeline: Any
) -> None:
    pipeline.pause_s = 0.2
    text = " ".join(["word"] * 90)  # 18 seconds of stream
    stream = client.chat.completions.create(
        model="fake", messages=[turn(uri, text=text)], stream=True, max_tokens=100
    )
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 12
    while not pipeline.closed_streams and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pipeline.closed_streams == 1


def test_all_work_is_done_by_one_thread(client: openai.OpenAI, uri: str, pipeline: Any) -> None:
    client.chat.completions.create(model="fake", messages=[turn(uri)])
    list(client.chat.completions.create(model="fake", messages=[turn(uri)], stream=True))
    assert len(pipeline.threads) == 1
