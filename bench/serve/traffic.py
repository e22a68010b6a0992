"""The requests of each variant: the same photographs and lengths, with and without edits.

Every answer is held to the same length by a bias against the mark that ends it, so that variants
differ in what they do and not in how much they say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from bench.serve.photographs import Photographs
from vlm.template import DEFAULT_PROMPT

CONCEPTS = ("dog", "cat", "car", "beach", "snow", "tree", "man", "ball")
WORDS = ("dog", "cat", "car", "beach", "snow", "child", "horse", "ball", "tree", "house")
NEVER = -100.0  # OpenAI's bias for a token that must not come


@dataclass(frozen=True)
class Traffic:
    """Makes bodies for one model."""

    model: str
    photographs: Photographs
    max_tokens: int
    end: int  # token that ends an answer

    def unsteered(self, n: int, *, stream: bool, cold: bool = False) -> list[dict[str, Any]]:
        """n requests without edits."""
        return [self._body(self._photo(i, cold), stream) for i in range(n)]

    def steered(
        self, n: int, n_distinct: int, turn: int, *, stream: bool, cold: bool = False
    ) -> list[dict[str, Any]]:
        """n requests with `n_distinct` different edits, which no other `turn` has."""
        bodies = self.unsteered(n, stream=stream, cold=cold)
        for i, body in enumerate(bodies):
            edit = distinct_edit(i % n_distinct, turn)
            body["steering"] = {"edits": [edit], "receipt": True}
        return bodies

    def text_alone(self, n: int, n_words: int, turn: int, *, stream: bool) -> list[dict[str, Any]]:
        """n chats for a bare vLLM, each with `n_words` words; `turn` makes other texts of them."""
        return [self._settings(text_of(n_words, i + n * turn), stream) for i in range(n)]

    def _photo(self, i: int, cold: bool) -> str:
        return self.photographs.cold() if cold else self.photographs.warm(i)

    def _body(self, photo: str, stream: bool) -> dict[str, Any]:
        image = {"type": "image_url", "image_url": {"url": photo}}
        return self._settings([image, {"type": "text", "text": DEFAULT_PROMPT}], stream)

    def _settings(self, content: Any, stream: bool) -> dict[str, Any]:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "logit_bias": {str(self.end): NEVER},
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


def distinct_edit(i: int, turn: int) -> dict[str, Any]:
    """Edit i of a turn: another concept or another dose than every other of up to 3,000 turns."""
    dose = 0.5 + (i // len(CONCEPTS)) / 64 + turn / 200_000  # p99
    return {"op": "clamp", "concept": CONCEPTS[i % len(CONCEPTS)], "value": dose}


def text_of(n_words: int, seed: int) -> str:
    """`n_words` words that differ from the first on, between seeds up to a million."""
    digits: list[int] = []
    while len(digits) < 6:
        seed, digit = divmod(seed, len(WORDS))
        digits.append(digit)
    return " ".join(WORDS[digits[i % 6]] for i in range(n_words))


def words_for(url: str, headers: dict[str, str], traffic: Traffic, n_prompt: int) -> int:
    """How many words make a prompt of `n_prompt` tokens. Raises RuntimeError where none do."""
    n_words = max(1, n_prompt // 2)
    for _ in range(6):
        (body,) = traffic.text_alone(1, n_words, 0, stream=False)
        answer = httpx.post(
            url, json={**body, "max_tokens": 1}, headers=headers, timeout=600, trust_env=False
        )
        answer.raise_for_status()
        found = int(answer.json()["usage"]["prompt_tokens"])
        if found == n_prompt:
            return n_words
        n_words = max(1, n_words + n_prompt - found)
    raise RuntimeError(f"no text has {n_prompt} prompt tokens; the nearest has {found}")


def prompt_tokens(bodies: Sequence[dict[str, Any]], url: str) -> int:
    """How many prompt tokens the gateway counts for the first of these."""
    body = {**bodies[0], "max_tokens": 1, "stream": False}
    body.pop("stream_options", None)
    answer = httpx.post(url, json=body, timeout=600, trust_env=False)
    answer.raise_for_status()
    return int(answer.json()["usage"]["prompt_tokens"])
