"""Candidates for names out of captions and WordNet."""

import pytest

from sparse_encoder.dataset import Sample
from vlm.feature_words import (
    base_form,
    english_forms,
    is_noun_phrase,
    mined_phrases,
    name_candidates,
    nouns_among,
)


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("dogs", "dog"),
        ("men", "man"),
        ("knives", "knife"),
        ("buses", "bus"),
        ("cherries", "cherry"),
        ("glass", "glass"),
        ("dog", "dog"),
        ("qwertz", "qwertz"),
    ],
)
def test_an_inflected_noun_has_the_base_form_of_wordnet(word: str, base: str) -> None:
    assert base_form(word) == base


@pytest.mark.parametrize(
    ("phrase", "is_one"),
    [
        ("dog", True),
        ("red bus", True),
        ("tennis court", True),
        ("are", False),
        ("the dog", False),
        ("dog runs quickly", False),
        ("of", False),
    ],
)
def test_a_noun_phrase_ends_in_a_noun_and_holds_no_function_word(phrase: str, is_one: bool) -> None:
    assert is_noun_phrase(phrase) is is_one


def test_phrases_come_from_captions_that_use_them_often_enough() -> None:
    captions = ["A red bus in the street"] * 3 + ["A red dog"]
    assert mined_phrases(captions, at_least=3) == ["red", "bus", "red bus", "street"]


def test_a_caption_counts_once_however_often_it_says_a_word() -> None:
    assert mined_phrases(["dog dog dog"], at_least=2) == []


def test_a_beagle_is_a_dog_and_an_animal_and_no_entity() -> None:
    said = english_forms().said_in(["two beagles"])
    assert {"beagle", "dog", "animal"} <= said
    assert not {"entity", "object", "whole"} & said


def test_of_a_list_the_nouns_are_candidates() -> None:
    assert nouns_among(["dog", "the", "quickly", "are"]) == ["dog"]


def test_candidates_are_labels_then_phrases_of_all_captions_then_listed_nouns() -> None:
    samples = [
        Sample("a", b"", ("A red bus",) * 2, label="tiger cat", detail="cat"),
        Sample("b", b"", ("A red bus",), label="tiger cat"),
    ]
    found = name_candidates(samples, ["the", "dog"], ["A red bus"] * 2)
    assert found == ["tiger cat", "cat", "bus", "red", "red bus", "dog"]
