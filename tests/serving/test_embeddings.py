"""Embeddings as OpenAI's client sees them."""

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_texts_and_photographs_share_one_space_of_unit_vectors(
    client: openai.OpenAI, uri: str
) -> None:
    part = {"type": "image_url", "image_url": {"url": uri}}
    answer = client.embeddings.create(model="fake", input=["an animal here", uri, part])
    text, image, same = (one.embedding for one in answer.data)
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert text == pytest.approx([1 / math.sqrt(5), 2 / math.sqrt(5), *[0] * 6])
    assert image == same == pytest.approx([0.6, 0.8, *[0] * 6])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
    assert (answer.model, answer.system_fingerprint) == ("fake", "f" * 64)


def test_base64_floats_and_sparse_entries_are_the_same_vector(
    client: openai.OpenAI, http: httpx.Client, uri: str
) -> None:
    decoded = client.embeddings.create(model="fake", input=uri).data[0].embedding  # base64
    floats = client.embeddings.create(model="fake", input=uri, encoding_format="float")
    assert decoded == floats.data[0].embedding
    body = {"model": "fake", "input": uri, "sparse": True}
    sparse = http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert sparse["indices"] == [0, 1]
    assert sparse["values"] == [decoded[0], decoded[1]]


# What is changed in a good request; words of the message; param; status.
BAD: list[tuple[dict[str, Any], str, str, int]] = [
    ({"input": None}, "input is missing", "input", 400),
    ({"input": []}, "at least 1 item", "input", 400),
    ({"input": ""}, "at least 1 character", "input[0]", 400),
    ({"input": [1, 2]}, "token ids", "input[0]", 400),
    ({"input": [[1, 2]]}, "token ids", "input[0]", 400),
    ({"input": ["x"] * 257}, "at most 256", "input", 400),
    ({"input": "x" * 20_001}, "20,001 characters", "input", 400),
    ({"input": ["data:image/png;base64,AAAA"]}, "image", "input[0]", 400),
    ({"input": [{"type": "image_url", "image_url": {"url": "http://a.b/c.jpg"}}]}, "not fetched",
     "input[0].image_url.url", 400),
    ({"input": ["data:image/png;base64,AAAA"] * 9}, "9 photographs", "input", 400),
    ({"input": "nothing known"}, "no feature is active", "input[0]", 400),
    ({"dimensions": 4}, "a feature with a meaning", "dimensions", 400),
    ({"encoding_format": "int8"}, "'base64'", "encoding_format", 400),
    ({"model": "other"}, "no model 'other'", "model", 404),
    ({"inptu": "x"}, "did you mean input", "inptu", 400),
]  # fmt: skip


def test_what_cannot_be_embedded_is_refused(http: httpx.Client) -> None:
    for change, words, param, status in BAD:
        body = {"model": "fake", "input": "an animal", "user": "someone", **change}
        answer = http.post("/v1/embeddings", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (status, param), (change, error)
        assert words in error["message"], error["message"]


def test_a_text_that_the_trunk_would_cut_is_refused(
    http: httpx.Client, pipeline: Any, photo: Callable[..., bytes]
) -> None:
    pipeline.encoder.text_trunk = SimpleNamespace(
        tokenizer=lambda text: {"input_ids": text.split()}, max_tokens=3
    )
    body = {"model": "fake", "input": ["an animal", "an animal and more"]}
    error = http.post("/v1/embeddings", json=body).json()["error"]
    assert error["message"].startswith("input[1] has 4 tokens, the text trunk reads 3")
