"""One suite for every engine: transformers always; the real vLLM where `make test-vllm` has one.

The real engine serves sparsight-mini from the interpreter in SPARSIGHT_VLLM_PYTHON; transformers
runs the tiny model, since its own tests cover the rest.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serving.engines.choice import EngineOptions, choose_engine
from serving.engines.vllm_child import VllmChild
from serving.limits import Limits
from sparse_encoder.image import decode_image
from tests.tiny_model import png, tiny_pipeline
from vlm.edits import parse_edit
from vlm.pipeline import ImagePart, Message, Pipeline, Request, Sampling, TextPart
from vlm.receipt import verify_receipt
from vlm.sampling import TokenLogprob
from vlm.sweep import sweep
from vlm.token_text import token_bytes

PYTHON = os.environ.get("SPARSIGHT_VLLM_PYTHON")
WAIT_S = 300
RESTART_S = 300  # half a minute on two free cores
SWEPT = (0.0, 1.0, 4.0)


@dataclass(frozen=True)
class Case:
    """A chat, as clients send it and as the pipeline takes it."""

    photos: tuple[int, ...] = (1,)
    text: str = "Describe the image in one sentence."
    edits: tuple[dict[str, Any], ...] = ()
    turns: tuple[tuple[str, str], ...] = ()


CASES = (
    Case(),
    Case(edits=({"feature": 3, "op": "clamp", "value": 3.0, "unit": "raw"},)),
    Case((2,), "What is the main subject?", ({"feature": 5, "op": "add", "value": 2.0, "unit": "raw"},)),
    Case((1, 2), "Compare them."),
    Case((), "Say hello."),
    Case((3,), "And now?", (), (("system", "be short"), ("user", "hello"), ("assistant", "hi"))),
)  # fmt: skip


@dataclass(frozen=True)
class Api:
    """A server, and what the pipeline answers by itself (transformers, alone)."""

    url: str
    model: str
    reference: tuple[str, ...]  # one a case
    uris: dict[int, str]
    pipeline: Pipeline
    told: tuple[TokenLogprob, ...]  # of the second case's answer, with 3 others at each place
    swept: tuple[str, ...]  # of photograph 1, at SWEPT
    child: VllmChild | None

    def body(self, case: Case, **more: Any) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": self.uris[n]}} for n in case.photos
        ]
        content.append({"type": "text", "text": case.text})
        messages: list[dict[str, Any]] = [{"role": r, "content": t} for r, t in case.turns]
        messages.append({"role": "user", "content": content})
        body = {"model": self.model, "messages": messages, "max_tokens": 24, **more}
        if case.edits:
            body["steering"] = {"edits": list(case.edits)}
        return body

    def ask(self, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=WAIT_S)

    def text(self, body: dict[str, Any]) -> str:
        answer = self.ask(body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])


def request_of(case: Case, photos: dict[int, bytes]) -> Request:
    parts = [ImagePart(decode_image(photos[n])) for n in case.photos]
    turns = [Message(role, (TextPart(text),)) for role, text in case.turns]  # type: ignore[arg-type]
    turns.append(Message("user", (*parts, TextPart(case.text))))
    edits = tuple(parse_edit(edit) for edit in case.edits)
    return Request(tuple(turns), edits, Sampling(max_tokens=24))


@pytest.fixture(
    scope="module",
    params=[
        "transformers",
        pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.model, pytest.mark.slow]),
    ],
)
def api(request: pytest.FixtureRequest, serve: Any, as_uri: Any) -> Iterator[Api]:
    photos = {n: png(n) for n in range(4)}
    uris = {n: as_uri(photo) for n, photo in photos.items()}
    real = request.param == "vllm"
    if real and PYTHON is None:
        pytest.skip("SPARSIGHT_VLLM_PYTHON names no interpreter with vLLM; make test-vllm does")
    pipeline = Pipeline.load() if real else tiny_pipeline()
    reference = tuple(pipeline.answer([request_of(case, photos)])[0].text for case in CASES)
    second = request_of(CASES[1], photos)
    sampling = replace(second.sampling, top_logprobs=3)
    told = pipeline.answer([replace(second, sampling=sampling)])[0].logprobs
    alone = sweep(pipeline, decode_image(photos[1]), concept="dog", doses=SWEPT, max_tokens=24)
    swept = tuple(point.answer.text for point in (alone.unsteered, *alone.points))
    maker = None
    children: list[VllmChild] = []
    if real:
        options = EngineOptions("vllm", python=Path(str(PYTHON)))
        with pytest.MonkeyPatch.context() as patch:
            start = VllmChild.start
            patch.setattr(
                VllmChild, "start", lambda self, *a: (children.append(self), start(self, *a))
            )
            maker = choose_engine(options, pipeline, Limits()).maker
    with serve(pipeline, engine=maker) as url:
        child = children[0] if children else None
        yield Api(url, pipeline.name, reference, uris, pipeline, told, swept, child)


@pytest.mark.parametrize("n", range(len(CASES)))
def test_a_greedy_answer_is_what_transformers_says_alone(api: Api, n: int) -> None:
    assert api.text(api.body(CASES[n])) == api.reference[n]


def test_answers_asked_for_at_once_are_those_given_alone(api: Api) -> None:
    async def all_of_them() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=WAIT_S) as client:
            sent = [
                client.post(f"{api.url}/v1/chat/completions", json=api.body(case))
                for case in CASES * 3
            ]
            return await asyncio.gather(*sent)

    answers = asyncio.run(all_of_them())
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert texts == list(api.reference) * 3


def test_a_stream_adds_up_to_the_whole_answer_with_its_counts_and_receipt(api: Api) -> None:
    body = api.body(CASES[1])
    whole = api.ask(body).json()
    steering = body.pop("steering")
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", timeout=WAIT_S, max_retries=0)
    chunks = list(
        client.chat.completions.create(
            **body,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"steering": steering},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole["choices"][0]["message"]["content"] == api.reference[1]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.to_dict() == whole["usage"]
    assert chunks[-1].to_dict()["steering"] == whole["steering"]


def test_an_answer_ends_at_its_limit_and_at_a_stop_text(api: Api) -> None:
    cut = api.ask(api.body(CASES[0], max_tokens=3)).json()
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 3
    whole = api.reference[0]
    stop = whole[4:7]
    stopped = api.ask(api.body(CASES[0], stop=stop)).json()["choices"][0]
    assert stopped["finish_reason"] == "stop"
    assert stopped["message"]["content"] == whole[: whole.find(stop)]


def test_the_same_seed_gives_the_same_sample(api: Api) -> None:
    body = api.body(CASES[0], temperature=1.0, top_p=0.9, seed=7)
    assert api.text(body) == api.text(body)
    assert len({api.text({**body, "seed": seed}) for seed in range(4)}) > 1


def test_what_the_gateway_refuses_is_the_same_for_every_engine(api: Api) -> None:
    long = api.ask(api.body(Case(text="1 " * 9000), max_tokens=500))
    mark = api.ask(api.body(Case(text="<|im_end|>")))
    bare = api.ask(api.body(Case((), edits=CASES[1].edits)))
    codes = [answer.json()["error"]["code"] for answer in (long, mark, bare)]
    assert codes == ["context_length_exceeded", "reserved_token", "steering_without_image"]
    assert {answer.status_code for answer in (long, mark, bare)} == {400}


def test_after_a_client_has_left_the_next_request_works(api: Api) -> None:
    body = api.body(CASES[0], stream=True, max_tokens=400, temperature=1.5, seed=3)
    with httpx.stream(
        "POST", f"{api.url}/v1/chat/completions", json=body, timeout=WAIT_S
    ) as answer:
        next(answer.iter_lines())
    deadline = time.monotonic() + 60
    while httpx.get(f"{api.url}/health").json()["open_requests"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert httpx.get(f"{api.url}/health").json()["open_requests"] == 0
    assert api.text(api.body(CASES[0])) == api.reference[0]


def test_log_probabilities_are_those_of_transformers_whole_and_streamed(api: Api) -> None:
    body = api.body(CASES[1], logprobs=True, top_logprobs=3)
    (choice,) = api.ask(body).json()["choices"]
    content = choice["logprobs"]["content"]
    assert choice["message"]["content"] == api.reference[1]
    assert len(content) == len(api.told)
    for one, mine in zip(content, api.told, strict=True):
        assert one["logprob"] == pytest.approx(mine.logprob, abs=1e-2)
        others = [other["logprob"] for other in one["top_logprobs"]]
        assert others == pytest.approx([value for _, value in mine.top], abs=1e-2)
    tokenizer = api.pipeline.tokenizer
    spelled = [token_bytes(tokenizer, mine.token) for mine in api.told]
    assert [bytes(one["bytes"]) for one in content] == spelled
    steering = body.pop("steering")
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", timeout=WAIT_S, max_retries=0)
    chunks = client.chat.completions.create(**body, stream=True, extra_body={"steering": steering})
    streamed = [
        one.to_dict()
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs is not None
        for one in choice.logprobs.content or ()
    ]
    assert [one["token"] for one in streamed] == [one["token"] for one in content]


def test_a_sweep_is_answered_by_the_engine_and_says_what_transformers_says(api: Api) -> None:
    body = {
        "model": api.model, "image": api.uris[1], "concept": "dog", "doses": SWEPT,
        "max_tokens": 24,
    }  # fmt: skip
    answer = httpx.post(f"{api.url}/v1/steering/sweep", json=body, timeout=WAIT_S)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    points = [found["unsteered"], *found["points"]]
    assert [point["text"] for point in points] == list(api.swept)
    image = decode_image(png(1))
    for point in found["points"]:
        assert verify_receipt(point["receipt"], [image], api.pipeline) == []


def test_an_engine_killed_in_mid_stream_gives_an_error_event_and_comes_back(api: Api) -> None:
    """Last, since the others share the server."""
    if api.child is None:
        pytest.skip("transformers runs in the server's own process")
    body = api.body(CASES[0], stream=True, max_tokens=400, temperature=1.5, seed=3)
    first = api.child.pid
    assert first is not None
    lines: list[str] = []
    with httpx.stream(
        "POST", f"{api.url}/v1/chat/completions", json=body, timeout=WAIT_S
    ) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if len(lines) == 6:  # some words are out
                os.killpg(first, signal.SIGKILL)
    assert answer.status_code == 200
    assert "engine_failed" in "\n".join(lines) and "data: [DONE]" not in lines
    began = time.monotonic()
    while (again := api.ask(api.body(CASES[0]))).status_code != 200:
        assert again.json()["error"]["code"] in ("engine_unavailable", "engine_failed")
        assert time.monotonic() - began < RESTART_S
        time.sleep(0.5)
    assert api.child.pid not in (None, first) and api.child.n_restarts == 1
    assert again.json()["choices"][0]["message"]["content"] == api.reference[0]
