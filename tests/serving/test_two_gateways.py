"""Two gateways with a model each: any of them may answer, and the other goes on where one ends."""

from typing import Any

import httpx

from tests.tiny_model import tiny_pipeline

CHAT = "/v1/chat/completions"


def test_either_gateway_gives_the_same_answer_and_one_goes_on_alone(serve: Any, uri: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "what"}]
    body = {
        "model": "tiny",
        "max_tokens": 8,
        "messages": [{"role": "user", "content": content}],
        "steering": {"edits": [{"feature": 1, "op": "scale", "value": 2}]},
    }

    def ask(url: str) -> tuple[str, Any]:
        answer = httpx.post(url + CHAT, json=body, timeout=60).raise_for_status().json()
        return answer["choices"][0]["message"]["content"], answer["steering"]["receipt"]

    with serve(tiny_pipeline()) as first:
        with serve(tiny_pipeline()) as second:
            answers = [ask(url) for url in (first, second, first)]
            assert answers[0] == answers[1] == answers[2]
        assert ask(first) == answers[0]
