"""The settings of a draw as vLLM gets them: none is dropped in silence."""

import json
from dataclasses import fields

from serving.engines.chat_body import chat_body
from vlm.pipeline import Message, TextPart
from vlm.sampling import Sampling

MESSAGES = [Message("user", (TextPart("hi"),))]
ASKED = {
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 3,
    "stop": ("x",),
    "top_logprobs": 2,
    "json_schema": '{"type": "object"}',
    "frequency_penalty": 0.5,
    "presence_penalty": 0.25,
    "logit_bias": ((11, -1.0),),
}


def test_each_setting_changes_the_body() -> None:
    plain = chat_body(MESSAGES, (), Sampling(), "m")
    assert set(ASKED) == {field.name for field in fields(Sampling)}
    for key, value in ASKED.items():
        sampling = Sampling(**{key: value})
        assert chat_body(MESSAGES, (), sampling, "m") != plain, key


def test_a_schema_is_vllms_response_format() -> None:
    schema = {"type": "object", "required": ["a"]}
    body = chat_body(MESSAGES, (), Sampling(json_schema=json.dumps(schema)), "m")
    assert body["response_format"]["json_schema"]["schema"] == schema
