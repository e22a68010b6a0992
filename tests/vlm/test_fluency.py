"""The language model's own view of a text, against a loop over single tokens."""

import pytest
import torch

from tests.tiny_model import tiny_pipeline
from vlm.fluency import Fluency
from vlm.template import Message, TextPart, chat_pieces


def test_the_score_is_the_mean_over_single_token_steps() -> None:
    pipeline = tiny_pipeline()
    fluency = Fluency(pipeline, "Say")
    (ids,) = chat_pieces([Message("user", (TextPart("Say"),))], pipeline.tokenizer)
    total, text = 0.0, "A cat."
    said = pipeline.tokenizer(text, add_special_tokens=False)["input_ids"]
    for token in said:
        with torch.no_grad():
            logits = pipeline.model(torch.tensor([ids])).logits[0, -1]
        total -= float(logits.log_softmax(-1)[token])
        ids = [*ids, token]
    assert fluency([text])[0] == pytest.approx(total / len(said), rel=1e-4)


def test_an_empty_answer_scores_nothing() -> None:
    assert Fluency(tiny_pipeline())(["", "A dog."])[0] == 0.0


def test_answers_scored_together_score_as_alone() -> None:
    pipeline = tiny_pipeline()
    texts = ["A cat.", "A man in the snow beside a red car.", "", "A cat.", "Two dogs"]
    alone = [Fluency(pipeline)([text])[0] for text in texts]
    assert Fluency(pipeline)(texts) == pytest.approx(alone, rel=1e-5)
