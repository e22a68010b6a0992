"""Tokens as PTBTokenizer gives them, and scores that can be worked out by hand."""

import math

import pytest

from sparse_encoder.errors import SparsightError
from vlm.caption_scores import caption_scores, tokenise

REFERENCES = {
    "a": ["A dog runs on the wet sand.", "The brown dog is running along a beach."],
    "b": ["Two men play chess in a park.", "Men at a chess table."],
    "c": ["A red bus stands at the station.", "A double-decker bus."],
}


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        # right-hand sides as printed by PTBTokenizer of CoreNLP 3.4.1, less its punctuation
        ("A dog, running!", "a dog running"),
        ("The man's dog doesn't bark.", "the man 's dog does n't bark"),
        ("black-and-white t-shirt", "black-and-white t-shirt"),
        ('A "Stop" sign; no -- parking...', "a stop sign no parking"),
        ("They cannot swim", "they can not swim"),
        ("at 10:30 p.m. near Mr. Smith", "at 10:30 p.m. near mr. smith"),
        ("1,000 people (or more)", "1,000 people -lrb- or more -rrb-"),
        ("men's and girls' shoes", "men 's and girls shoes"),
        ("It\u2019s here", "it 's here"),
        ("", ""),
    ],
)
def test_a_caption_is_tokenised_as_ptbtokenizer_does(caption: str, tokens: str) -> None:
    assert tokenise(caption) == tokens


def test_a_copy_of_a_reference_has_bleu4_one_and_the_largest_cider() -> None:
    single = {key: captions[:1] for key, captions in REFERENCES.items()}
    scores = caption_scores({key: captions[0] for key, captions in single.items()}, single)
    assert scores.bleu4 == pytest.approx(1.0, abs=1e-6)
    assert scores.cider == pytest.approx(10.0, abs=1e-6)


def test_bleu4_is_the_geometric_mean_of_clipped_precisions() -> None:
    # 6 tokens; precisions 5/6, 4/5, 3/4, 2/3; equal lengths, so no brevity penalty
    scores = caption_scores(
        {"a": "one two three four five SIX"}, {"a": ["one two three four five 6"]}
    )
    assert scores.bleu4 == pytest.approx((5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25, rel=1e-6)


def test_bleu4_punishes_a_short_answer_by_the_brevity_penalty() -> None:
    scores = caption_scores({"a": "one two three four"}, {"a": ["one two three four five"]})
    assert scores.bleu4 == pytest.approx(math.exp(1 - 5 / 4), rel=1e-6)


def test_cider_of_one_shared_word_is_its_share_of_the_vectors() -> None:
    # Two images, references "x y" and "z w": every unigram and bigram is in one image of two, so
    # all weights are equal. "x q": the unknown word has document frequency 0, weighted as 1.
    # cos over unigrams = 1 / (sqrt 2 * sqrt 2) = 1/2; bigrams differ: 0; so 10 * (1/2) / 4 for the
    # first image, and a copy of a 2-word reference gets 10 * (1 + 1) / 4 for the second.
    scores = caption_scores({"a": "x q", "b": "z w"}, {"a": ["x y"], "b": ["z w"]})
    assert scores.cider == pytest.approx((10 * 0.5 / 4 + 10 * 2 / 4) / 2, rel=1e-6)


def test_case_and_punctuation_do_not_change_a_score() -> None:
    plain = {"a": "a dog runs on the sand", "b": "two men play chess", "c": "a red bus"}
    loud = {"a": "A DOG, runs on the sand!", "b": "Two men - play chess.", "c": '"A red bus"'}
    assert caption_scores(plain, REFERENCES) == caption_scores(loud, REFERENCES)


@pytest.mark.parametrize(
    ("answers", "references", "word"),
    [
        ({}, {}, "at least one image"),
        ({"a": "x"}, {"b": ["x"]}, "'a', 'b'"),
        ({"a": "x"}, {"a": ["x"], "b": ["y"]}, "'b'"),
        ({"a": "x"}, {"a": []}, "no reference caption"),
    ],
)
def test_answers_that_do_not_fit_the_references_are_refused(
    answers: dict[str, str], references: dict[str, list[str]], word: str
) -> None:
    with pytest.raises(SparsightError, match=word):
        caption_scores(answers, references)
