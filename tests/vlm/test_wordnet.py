"""WordNet's nouns against facts of Princeton's release."""

import pytest

from sparse_encoder.errors import SparsightError
from vlm.wordnet import wordnet


def test_the_first_noun_sense_of_dog_is_imagenet_class_n02084071() -> None:
    assert wordnet().senses("dog")[0].offset == 2084071
    assert wordnet().synset("dog.n.01") is wordnet().synset("n02084071")


def test_dog_has_seven_noun_senses_and_the_fifth_is_a_sausage() -> None:
    senses = wordnet().senses("dog")
    assert len(senses) == 7
    assert "frankfurter" in senses[4].lemmas


def test_the_closure_of_dog_holds_dog_and_poodle_but_neither_canine_nor_cat() -> None:
    closure = wordnet().closure(wordnet().synset("dog.n.01"))
    assert len(closure) == 190
    for inside in ("dog.n.01", "poodle.n.01", "toy_poodle.n.01"):
        assert wordnet().synset(inside).offset in closure
    for outside in ("canine.n.02", "cat.n.01"):
        assert wordnet().synset(outside).offset not in closure


def test_instances_are_in_no_closure() -> None:
    cities = wordnet().closure(wordnet().synset("city.n.01"))
    assert wordnet().synset("london.n.01").offset not in cities


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("women", "woman"),
        ("mice", "mouse"),
        ("buses", "bus"),
        ("butterflies", "butterfly"),
        ("knives", "knife"),
        ("wild dogs", "wild dog"),
        ("polar bears", "polar bear"),
    ],
)
def test_a_plural_has_the_senses_of_its_singular(plural: str, singular: str) -> None:
    assert wordnet().senses(plural)
    assert wordnet().senses(plural) == wordnet().senses(singular)


@pytest.mark.parametrize("word", ["running", "smaller", "quickly", "went", "sits", "geese", "red"])
def test_inflected_words_of_every_kind_are_known(word: str) -> None:
    assert wordnet().knows(word)


@pytest.mark.parametrize("word", ["grunkle", "xqzt", "bllorf"])
def test_letter_salad_is_not_known(word: str) -> None:
    assert not wordnet().knows(word)


@pytest.mark.parametrize("name", ["dog.n.99", "dog.n.00", "grunkle.n.01", "n00000000", "dog", ""])
def test_an_unknown_synset_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(SparsightError, match="dog.n.01") as refusal:
        wordnet().synset(name)
    assert repr(name) in refusal.value.message
