"""The mention test: a table of answers, the labels of our sets, and fair pairs."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.errors import SparsightError
from vlm.label_senses import EVERYDAY_NAMES, LABEL_SENSES
from vlm.mention import Lexicon, mentions, pair_is_valid, pair_lexicons
from vlm.steering_evaluation.pairs import STEERING_PAIRS, SteeringPair
from vlm.wordnet import SYNSET_NAME, wordnet

DATA = Path(os.environ.get("SPARSIGHT_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
CLASSES = DATA / "zeroshot" / "classes.json"

ANSWERS = [
    # the concept itself, kinds of it, plurals, spelling
    ("dog", "A dog runs on the beach.", True),
    ("dog", "Two DOGS, running!", True),
    ("dog", "A poodle on a sofa", True),
    ("dog", "a golden retriever catches a frisbee", True),
    ("dog", "A Saint-Bernard in the snow", True),
    ("dog", "The dog's tail", True),
    ("dog", "a puppy", True),
    ("dog", "a dalmatian", True),
    ("cat", "a kitten in a basket", True),
    ("cat", "two siamese cats", True),
    ("man", "three men at work", True),
    ("man", "A guy with a hat", True),
    ("woman", "women in red dresses", True),
    ("woman", "A young girl smiles", True),
    ("butterfly", "butterflies on a leaf", True),
    ("airplane", "A jet in the sky", True),
    ("airplane", "the aeroplane", True),
    ("helicopter", "a chopper above the sea", True),
    ("person", "people at a table", True),
    ("person", "a boy", True),
    ("scissors", "a pair of scissors", True),
    ("carrots", "a carrot", True),
    ("bow tie", "a man in a bowtie", True),
    ("n02084071", "a dog", True),
    ("dog.n.01", "a dog", True),
    ("a dog", "a dog", True),
    # labels whose first noun sense is another thing
    ("watch", "a wrist watch", True),
    ("tick", "A tick on a leaf", True),
    ("ketch", "a ketch at sea", True),
    ("bass fish", "a large bass", True),
    ("wild cat", "a wildcat", True),
    ("wild cat", "a domestic cat", False),
    ("cougar face", "the puma's eyes", True),
    ("cougar face", "a man's face", False),
    ("crocodile head", "crocodiles", True),
    ("face close-up", "a face", True),
    ("Garfield cartoon", "Garfield", True),
    ("Dalmatian dog", "a dalmatian", True),
    ("Dalmatian dog", "a dog", False),
    ("yin yang symbol", "a yin-yang sign", True),
    ("cup", "a coffee cup", True),
    ("sour milk", "sour milk", True),
    ("sour milk", "milk", False),
    ("ceiling fan", "a fan", True),
    ("hat with a wide brim", "a sombrero", True),
    ("sea horse", "seahorses", True),
    ("motorbike", "a motorcycle", True),
    # no hypernyms, no siblings, no parts of words
    ("dog", "an animal", False),
    ("dog", "a wolf", False),
    ("dog", "a hotdog stand", False),
    ("dog", "dogmatic", False),
    ("man", "a person", False),
    ("man", "a woman", False),
    ("woman", "a human", False),
    ("airplane", "an aircraft", False),
    ("kangaroo", "a marsupial", False),
    # names that mostly say something else
    ("woman", "a cat on a bed", False),
    ("woman", "a baby bird", False),
    ("butterfly", "a blue umbrella", False),
    ("butterfly", "a large white building", False),
    ("car", "an electric guitar", False),
    ("apple", "a delicious pizza", False),
    ("man", "macaroni and cheese", False),
    ("cat", "a painter at work", False),
    ("dog", "a toy", False),
    ("person", "a dog and a star", False),
    # compounds
    ("dog", "a hot dog with mustard", False),
    ("dog", "a dog beside a hot dog", True),
    ("bear", "a teddy bear", False),
    ("bear", "a polar bear", True),
    ("man", "an old man", True),
    ("dog", "A dog bites a stick", True),
    ("man", "A man on a horse", True),
    ("horse", "A man on a white horse", True),
    ("hotdog", "two hot dogs", True),
    # negation within three tokens before the match
    ("dog", "There is no dog.", False),
    ("dog", "It is not a big dog.", False),
    ("dog", "This isn't a dog", False),
    ("dog", "a street without any dogs", False),
    ("dog", "never a dog", False),
    ("dog", "a cat rather than a dog", False),
    ("dog", "a cat instead of a small dog", False),
    ("dog", "not far from the dog", True),  # four tokens before
    ("dog", "no cat but there is a dog", True),
    ("dog", "no dog, but look at the happy dog", True),
    ("dog", "", False),
    ("dog", "...", False),
]


@pytest.mark.parametrize(("concept", "answer", "expected"), ANSWERS)
def test_an_answer_mentions_the_concept_just_when_it_names_it(
    concept: str, answer: str, expected: bool
) -> None:
    assert mentions(Lexicon.for_concept(concept), answer) is expected


def test_every_label_of_our_sets_has_a_lexicon_that_its_own_name_meets() -> None:
    if not CLASSES.exists():
        pytest.skip(f"no evaluation data at {CLASSES}; set SPARSIGHT_DATA")
    labels = {label for labels in json.loads(CLASSES.read_text()).values() for label in labels}
    assert len(labels) > 300
    lost = [
        label
        for label in labels
        if not mentions(Lexicon.for_concept(label), f"A photo of a {label}.")
    ]
    assert lost == []


def test_every_sense_named_in_the_tables_exists() -> None:
    meanings = [meaning for entry in LABEL_SENSES.values() for meaning in entry]
    names = [name for name in (*meanings, *EVERYDAY_NAMES) if SYNSET_NAME.fullmatch(name)]
    assert len(names) > 100
    for name in names:
        assert wordnet().synset(name)


@given(st.text())
def test_any_text_can_be_searched(answer: str) -> None:
    assert mentions(Lexicon.for_concept("dog"), answer) in (True, False)


@pytest.mark.parametrize("concept", ["", "   ", "!?"])
def test_a_concept_without_a_word_is_refused(concept: str) -> None:
    with pytest.raises(SparsightError, match="no word"):
        Lexicon.for_concept(concept)


@pytest.mark.parametrize("pair", STEERING_PAIRS, ids=str)
def test_every_pair_of_the_project_is_valid(pair: SteeringPair) -> None:
    source, target = pair_lexicons(pair.source, pair.target)
    assert mentions(source, f"a {pair.source}") and not mentions(source, f"a {pair.target}")
    assert mentions(target, f"a {pair.target}") and not mentions(target, f"a {pair.source}")


@pytest.mark.parametrize(
    ("a", "b", "valid"),
    [
        ("man", "woman", True),
        ("dog", "cat", True),
        ("dog", "poodle", False),  # a kind of the other
        ("animal", "cat", False),
        ("cat", "wild cat", False),
        ("person", "woman", False),
        ("man", "person", False),
        ("oat milk", "oat milk", False),  # WordNet lacks both, the phrase is the same
        ("dog", "dog.n.01", False),
        ("ceiling fan", "fan", False),  # its head noun is the other's name
        ("computer mouse", "mouse", False),  # two things, one name
    ],
)
def test_a_pair_is_valid_just_when_no_meaning_is_shared(a: str, b: str, valid: bool) -> None:
    lexicon_a, lexicon_b = Lexicon.for_concept(a), Lexicon.for_concept(b)
    assert pair_is_valid(lexicon_a, lexicon_b) is valid
    assert pair_is_valid(lexicon_b, lexicon_a) is valid


def test_an_invalid_pair_is_refused_with_both_names() -> None:
    with pytest.raises(SparsightError, match="'dog' and 'poodle'") as refusal:
        pair_lexicons("dog", "poodle")
    assert refusal.value.code == "invalid_pair"
