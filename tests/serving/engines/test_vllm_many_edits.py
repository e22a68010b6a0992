"""Many requests with edits of their own at once to vLLM: each gets its own soft tokens there."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from serving.limits import Limits
from tests.serving.many_edits import N, chat, edits, forget, images
from vlm.pipeline import Pipeline

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Seen:
    """One request: the digest of the soft tokens that vLLM got, what came back, and the receipt."""

    soft: str
    text: str
    receipt: dict[str, Any]


def asked(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Each one's number is its seed too, which vLLM is handed: so it is known again there."""
    pairs = zip(images(), edits(pipeline), strict=True)
    return [chat(image, edit, "what is it?", seed=i) for i, (image, edit) in enumerate(pairs)]


def digest(sent: dict[str, Any]) -> str:
    """Of the soft tokens in what vLLM was sent."""
    (part,) = [p for p in sent["messages"][0]["content"] if p["type"] == "prompt_embeds"]
    return hashlib.sha256(part["data"].encode()).hexdigest()


def seen(fake: Any, answers: Sequence[dict[str, Any]]) -> list[Seen]:
    """What vLLM got and the client got of each, by their number."""
    by_seed = {sent["seed"]: digest(sent) for sent in fake.bodies}
    assert sorted(by_seed) == list(range(len(answers))) and len(fake.bodies) == len(answers)
    return [
        Seen(by_seed[i], answer["choices"][0]["message"]["content"], answer["steering"]["receipt"])
        for i, answer in enumerate(answers)
    ]


def say_digest(messages: Any, blocks: Any, sent: Any) -> str:
    """An answer that tells which soft tokens it is of."""
    return digest(sent)


def all_at_once(url: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        limits = httpx.Limits(max_connections=N)
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
            posts = [client.post(CHAT, json=body) for body in bodies]
            return [one.raise_for_status().json() for one in await asyncio.gather(*posts)]

    return asyncio.run(run())


def together(fake: Any, gateway: Any, bodies: Sequence[dict[str, Any]]) -> list[Seen]:
    """vLLM answers none of them before it has them all."""
    n, all_there, lock = 0, threading.Event(), threading.Lock()

    def answer(messages: Any, blocks: Any, sent: Any) -> str:
        nonlocal n
        with lock:
            n += 1
            if n == len(bodies):
                all_there.set()
        assert all_there.wait(60)
        return digest(sent)

    fake.answer = answer
    fake.socket.listen(2 * N)  # its queue of 128 would have some clients wait a second or more
    with gateway(fake.url, limits=Limits(max_open=N)) as url:
        return seen(fake, all_at_once(url, bodies))


@pytest.fixture(scope="module")
def bodies(tiny: Pipeline) -> list[dict[str, Any]]:
    return asked(tiny)


@pytest.fixture
def alone(
    tiny: Pipeline, gateway: Any, start_fake: Any
) -> Callable[[Sequence[dict[str, Any]]], list[Seen]]:
    """Each request by itself, on a gateway that remembers no other."""

    def ask(bodies: Sequence[dict[str, Any]]) -> list[Seen]:
        answers = []
        with start_fake(answer=say_digest) as fake, gateway(fake.url) as url:
            with httpx.Client(base_url=url, timeout=60) as client:
                for body in bodies:
                    forget(tiny)
                    answers.append(client.post(CHAT, json=body).raise_for_status().json())
            return seen(fake, answers)

    return ask


def wrong(got: Sequence[Seen], expected: Sequence[Seen]) -> int:
    return sum(a != b for a, b in zip(got, expected, strict=True))


@pytest.mark.slow
def test_256_edits_at_once_reach_vllm_as_the_soft_tokens_that_each_has_alone(
    tiny: Pipeline, gateway: Any, fake: Any, alone: Any, bodies: list[dict[str, Any]]
) -> None:
    expected = alone(bodies)
    forget(tiny)
    got = together(fake, gateway, bodies)
    assert wrong(got, expected) == 0
    assert [one.text for one in got] == [one.soft for one in got]
    for one, body in zip(got, bodies, strict=True):
        assert one.receipt["steering"]["edits"][0].items() >= body["steering"]["edits"][0].items()
    # Every edit changes the code in its own way: none may share another's soft tokens.
    assert len({one.receipt["codes_sha256"] for one in got}) == N
    assert len({one.soft for one in got}) == N


def soft_tokens_of_another_edit(pipeline: Pipeline, patch: pytest.MonkeyPatch) -> None:
    """A key that forgets the edits."""
    kept = pipeline.kept_soft
    patch.setattr(
        pipeline,
        "_soft",
        lambda edited: kept.get(
            ("", edited.base.sha256()), lambda: pipeline.edited_soft_tokens(edited)
        ),
    )


def codes_of_another_told(pipeline: Pipeline, patch: pytest.MonkeyPatch) -> None:
    """What leaves is right, but the receipt tells of the codes of the first request."""
    first: list[str | None] = []
    make = pipeline.soft_prompt

    def mixed(request: Any) -> Any:
        made = make(request)
        assert made.receipt is not None
        first.append(made.receipt.codes_sha256)
        return replace(made, receipt=replace(made.receipt, codes_sha256=first[0]))

    patch.setattr(pipeline, "soft_prompt", mixed)


def no_edits(pipeline: Pipeline, patch: pytest.MonkeyPatch) -> None:
    """What leaves is unsteered."""
    make = pipeline.soft_prompt
    patch.setattr(
        pipeline,
        "soft_prompt",
        lambda request: replace(make(request), soft=make(replace(request, edits=())).soft),
    )


@pytest.mark.parametrize("plant", [soft_tokens_of_another_edit, codes_of_another_told, no_edits])
def test_each_planted_mix_up_on_the_way_to_vllm_is_seen_by_the_comparison(
    tiny: Pipeline,
    gateway: Any,
    fake: Any,
    alone: Any,
    bodies: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[..., None],
) -> None:
    expected = alone(bodies[:8])
    plant(tiny, monkeypatch)
    forget(tiny)
    try:
        assert wrong(together(fake, gateway, bodies[:8]), expected) > 0
    finally:
        forget(tiny)  # what was spoilt is not for the tests after this one
