"""What is drawn from logits and what is told of it; answers held to a JSON schema."""

import json

import pytest
import torch

from sparse_encoder.errors import SparsightError
from tests.tiny_model import photo, tiny_pipeline
from vlm.answer_text import AnswerText, Piece
from vlm.language_model import tiny_tokenizer
from vlm.pipeline import Answer, Pipeline, caption_request
from vlm.sampling import Chooser, Sampling, TokenLogprob, token_logprob
from vlm.token_text import token_bytes

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 0, "maximum": 99},
        "b": {"enum": ["x", "y"]},
    },
    "required": ["n", "b"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return tiny_pipeline()


def ask(pipeline: Pipeline, **sampling: object) -> Answer:
    return pipeline.answer([caption_request(photo(1), sampling=Sampling(**sampling))])[0]


def test_what_is_told_of_a_token_is_the_log_softmax_of_the_models_own_logits() -> None:
    logits = torch.tensor([0.5, 2.0, -1.0, 1.0])
    told = token_logprob(logits, 3, 2)
    expected = logits.double().softmax(0).log()
    assert told.logprob == pytest.approx(float(expected[3]), abs=1e-6)
    assert [token for token, _ in told.top] == [1, 3]
    assert told.top[0][1] == pytest.approx(float(expected[1]), abs=1e-6)
    # A penalty and a bias change what is drawn, not what is told.
    chooser = Chooser(Sampling(top_logprobs=0, logit_bias=((1, -50.0),), presence_penalty=1.5))
    assert chooser.choose(logits)[0] == 3
    token, after = chooser.choose(logits)  # 3 was said: 1.0 - 1.5 < 0.5
    assert token == 0 and after.logprob == pytest.approx(float(expected[0]), abs=1e-6)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1e-320),
        Sampling(temperature=1e-45),
        Sampling(temperature=1e-6),
        Sampling(temperature=1.0, top_p=1e-320),
        Sampling(temperature=1.0, top_p=1e-45),
    ],
)
def test_settings_next_to_zero_take_the_likeliest_token_and_break_nothing(
    sampling: Sampling,
) -> None:
    assert Chooser(sampling).choose(torch.tensor([0.5, 200.0, -1.0, 1.0]))[0] == 1


@pytest.mark.parametrize("token", [10**6, 2**62])
def test_a_bias_for_a_token_that_the_model_has_not_is_refused(
    pipeline: Pipeline, token: int
) -> None:
    with pytest.raises(SparsightError, match=f"token {token}") as caught:
        ask(pipeline, max_tokens=2, logit_bias=((token, 1.0),))
    assert caught.value.param == "logit_bias"


def test_a_frequency_penalty_grows_with_each_time_and_a_presence_penalty_does_not() -> None:
    logits = torch.tensor([1.0, 0.0])
    often = Chooser(Sampling(frequency_penalty=0.4))
    once = Chooser(Sampling(presence_penalty=0.4))
    assert [often.choose(logits)[0] for _ in range(4)] == [0, 0, 0, 1]
    assert {once.choose(logits)[0] for _ in range(9)} == {0}


def test_every_token_of_an_answer_has_its_log_probability(pipeline: Pipeline) -> None:
    answer = ask(pipeline, max_tokens=12, top_logprobs=3)
    tokens = [one.token for one in answer.logprobs]
    assert pipeline.tokenizer.decode(tokens, skip_special_tokens=True) == answer.text
    for one in answer.logprobs:  # greedy takes the likeliest
        assert one.top[0] == (one.token, one.logprob)
    assert ask(pipeline, max_tokens=12).logprobs == ()


def test_a_stream_tells_the_same_as_the_whole_answer(pipeline: Pipeline) -> None:
    sampling = Sampling(max_tokens=24, top_logprobs=1)
    request = caption_request(photo(1), sampling=sampling)
    *pieces, last = pipeline.stream(request)
    told = [one for piece in pieces if isinstance(piece, Piece) for one in piece.logprobs]
    assert isinstance(last, Answer) and tuple(told) == last.logprobs
    assert [one.token for one in told] == [one.token for one in ask(
        pipeline, max_tokens=24, top_logprobs=1
    ).logprobs]  # fmt: skip


def test_tokens_behind_a_stop_text_are_not_told() -> None:
    tokenizer = tiny_tokenizer()
    text = AnswerText(tokenizer, end=2, stop=("cd",))
    tokens = tokenizer("ab cd", add_special_tokens=False)["input_ids"]
    for token in tokens:
        text.add(token, TokenLogprob(token, -1.0, ()))
    assert (text.text, text.finish) == ("ab ", "stop")
    assert [one.token for one in text.logprobs] == tokens[:3]
    assert [one.token for one in text.fresh().logprobs] == tokens[:3]


def test_the_bytes_of_tokens_join_to_the_text() -> None:
    tokenizer = tiny_tokenizer()
    text = "Ein Stück – \U0001f436\n"
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(token_bytes(tokenizer, token) for token in tokens).decode() == text
    assert token_bytes(tokenizer, 2) == b"<|im_end|>"
    assert token_bytes(tokenizer, 263) == b""  # the logits have more places than the vocabulary


def test_an_answer_is_json_of_the_schema_beside_one_that_is_free(pipeline: Pipeline) -> None:
    pytest.importorskip("llguidance")
    held = Sampling(max_tokens=60, json_schema=json.dumps(SCHEMA))
    warm = Sampling(max_tokens=60, json_schema=json.dumps(SCHEMA), temperature=1.5, seed=3)
    free = Sampling(max_tokens=60)
    answers = pipeline.answer([caption_request(photo(1), sampling=s) for s in (held, free, warm)])
    for answer in (answers[0], answers[2]):
        found = json.loads(answer.text)
        assert 0 <= found["n"] <= 99 and found["b"] in ("x", "y") and len(found) == 2
        assert answer.finish_reason == "stop"
    assert answers[1].text == ask(pipeline, max_tokens=60).text


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ('{"type": "object", "$dynamicRef": "#x"}', "'$dynamicRef'"),
        ('{"type": "nope"}', "cannot be held"),
        ('{"$ref": "#/nowhere"}', "cannot be held"),
        ('{"type": "string", "pattern": "("}', "cannot be held"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused(
    pipeline: Pipeline, schema: str, word: str
) -> None:
    pytest.importorskip("llguidance")
    with pytest.raises(SparsightError) as caught:
        ask(pipeline, json_schema=schema)
    assert word in caught.value.message and caught.value.param == "response_format"


def test_without_the_library_json_is_refused_and_not_left_to_chance(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(SparsightError, match="pip install llguidance"):
        ask(tiny_pipeline(), json_schema='{"type": "object"}')
