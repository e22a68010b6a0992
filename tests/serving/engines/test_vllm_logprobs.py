"""vLLM's log-probabilities as ours: by token id, of the text's tokens alone, likeliest first."""

import json
from typing import Any

import httpx
import pytest

from serving.engines.faults import EngineFailedError
from serving.engines.vllm_answer import StreamedAnswer, read_answer
from serving.engines.vllm_logprobs import MAX_LOGPROBS, Spelled, logprobs_body
from tests.tiny_model import photo
from vlm.answer_text import AnswerText, Piece
from vlm.pipeline import Answer, Pipeline, Sampling, SoftPrompt, caption_request

END = 2  # of the tiny tokenizer
ASKED = SoftPrompt([[1, 1, 1]], (), None)


def told(token: int, logprob: float, top: list[tuple[int, float]]) -> dict[str, Any]:
    """An entry as vLLM writes it with return_tokens_as_token_ids."""
    others = [{"token": f"token_id:{t}", "logprob": p, "bytes": []} for t, p in top]
    return {"token": f"token_id:{token}", "logprob": logprob, "bytes": [], "top_logprobs": others}


def as_vllm_tells(answer: Answer, more: tuple[int, ...] = (END,)) -> list[dict[str, Any]]:
    """The drawn token first, then the likeliest; and of the tokens that are no text."""
    entries = []
    for one in answer.logprobs:
        top = [(one.token, one.logprob), *[pair for pair in one.top if pair[0] != one.token]]
        entries.append(told(one.token, one.logprob, top))
    return entries + [told(token, -0.5, [(token, -0.5)]) for token in more]


def choice_of(text: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"message": message, "finish_reason": "stop", "logprobs": {"content": entries}}


def whole_of(text: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": len(entries)}
    return {"choices": [choice_of(text, entries)], "usage": usage}


def spelled(pipeline: Pipeline, n_top: int = 3, stop: tuple[str, ...] = ()) -> Spelled:
    return Spelled(AnswerText(pipeline.tokenizer, END, stop), n_top)


@pytest.fixture(scope="module")
def ours(tiny: Pipeline) -> Answer:
    sampling = Sampling(max_tokens=12, temperature=1.0, seed=5, top_logprobs=3)
    return tiny.answer([caption_request(photo(1), sampling=sampling)])[0]


def test_what_vllm_tells_is_read_as_the_pipelines_own(tiny: Pipeline, ours: Answer) -> None:
    assert any(one.token not in [t for t, _ in one.top] for one in ours.logprobs)  # drawn, not best
    read = read_answer(whole_of(ours.text, as_vllm_tells(ours)), ASKED, spelled(tiny))
    assert read.text == ours.text
    assert [(one.token, one.logprob) for one in read.logprobs] == [
        (one.token, one.logprob) for one in ours.logprobs
    ]
    for mine, theirs in zip(ours.logprobs, read.logprobs, strict=True):
        best = sorted({*mine.top, (mine.token, mine.logprob)}, key=lambda pair: -pair[1])[:3]
        assert list(theirs.top) == best


def test_tokens_of_a_stop_text_are_left_out(tiny: Pipeline) -> None:
    tokens = tiny.tokenizer("hello world", add_special_tokens=False)["input_ids"]
    entries = [told(token, -1.0, []) for token in tokens]
    read = read_answer(whole_of("hello", entries), ASKED, spelled(tiny, 0, (" wor",)))
    assert (read.text, len(read.logprobs)) == ("hello", 5)


def test_a_stream_tells_each_token_with_its_text_and_all_of_them(tiny: Pipeline) -> None:
    tokens = tiny.tokenizer("aé b!", add_special_tokens=False)["input_ids"]  # é: two tokens
    answer = StreamedAnswer(ASKED, spelled(tiny, 0))
    pieces = []
    for i, (token, said) in enumerate(zip(tokens, ["a", "", "é", " ", "b", "!"], strict=True)):
        choice = {"delta": {"content": said}, "logprobs": {"content": [told(token, -float(i), [])]}}
        usage = {"prompt_tokens": 3, "completion_tokens": i + 1}
        pieces.append(answer.add({"choices": [choice], "usage": usage}))
    answer.add({"choices": [{"delta": {}, "finish_reason": "length"}]})
    whole = answer.whole()
    pieces.append(answer.rest())
    assert "".join(pieces) == whole.text == "aé b!"
    gathered = [one for piece in pieces if isinstance(piece, Piece) for one in piece.logprobs]
    assert gathered == list(whole.logprobs) and len(gathered) == 6
    assert [len(piece.logprobs) for piece in pieces[:3] if isinstance(piece, Piece)] == [1, 0, 2]


@pytest.mark.parametrize(
    "entries",
    [
        [{"token": "a", "logprob": -1.0, "top_logprobs": []}],  # not by its id
        [{"token": "token_id:x", "logprob": -1.0, "top_logprobs": []}],
        [{"token": "token_id:5", "top_logprobs": []}],
        [{"token": "token_id:5", "logprob": -1.0, "top_logprobs": None}],
        ["a"],
        [],  # none at all of a text that has tokens
        [told(9, -1.0, [])],  # of another text
    ],
)
def test_log_probabilities_that_are_not_the_texts_are_refused(
    tiny: Pipeline, entries: list[Any]
) -> None:
    with pytest.raises(EngineFailedError, match="log-probabilities"):
        read_answer(whole_of("hello", entries), ASKED, spelled(tiny))


def test_one_more_is_asked_for_than_is_told_and_the_engine_is_started_for_it() -> None:
    assert logprobs_body(20)["top_logprobs"] == MAX_LOGPROBS == 21
    assert logprobs_body(0) == {
        "logprobs": True, "top_logprobs": 0, "return_tokens_as_token_ids": True,
    }  # fmt: skip


def test_a_client_gets_them_whole_and_streamed(
    gateway: Any, fake: Any, tiny: Pipeline, uri: str
) -> None:
    def entries(text: str) -> list[dict[str, Any]]:
        ids = tiny.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [told(token, -0.25, [(token, -0.25), (7, -3.0)]) for token in ids]

    fake.logprobs = entries
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "hm"}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
    asked = {**body, "logprobs": True, "top_logprobs": 1}
    with gateway(fake.url) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        (choice,) = answer.json()["choices"]
        streamed = httpx.post(f"{url}/v1/chat/completions", json={**asked, "stream": True})
        plain = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    content = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == choice["message"]["content"]
    assert all(len(one["top_logprobs"]) == 1 for one in content)
    assert plain["choices"][0]["logprobs"] is None
    events = [json.loads(e[6:]) for e in streamed.text.split("\n\n") if e.startswith("data: {")]
    told_of = [c["logprobs"] for event in events for c in event["choices"] if c["logprobs"]]
    assert [one for some in told_of for one in some["content"]] == content
