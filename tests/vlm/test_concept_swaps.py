"""A swap changes the named thing, its plural and its article, and nothing else."""

import numpy as np
import pytest

from vlm.concept_swaps import SwapTable, Thing, plural_of

TABLE = SwapTable(
    [
        Thing("dog", "dogs", "animal"),
        Thing("elephant", "elephants", "animal"),
        Thing("man", "men", "person"),
    ]
)


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("dog", "dogs"),
        ("man", "men"),
        ("woman", "women"),
        ("fireman", "firemen"),
        ("child", "children"),
        ("bus", "buses"),
        ("cherry", "cherries"),
        ("stop sign", "stop signs"),
        ("toy", "toys"),
    ],
)
def test_plurals(noun: str, plural: str) -> None:
    assert plural_of(noun) == plural


def _draws(caption: str, suppress: float = 0.0, insert: float = 0.0) -> set[str]:
    random = np.random.default_rng(0)
    swaps = [TABLE.draw(caption, random, suppress, insert) for _ in range(60)]
    return {s.caption for s in swaps if s is not None}


def test_the_article_follows_the_new_word() -> None:
    assert "An elephant and dogma." in _draws("A dog and dogma.")


def test_plurals_become_plurals() -> None:
    assert "Two elephants run." in _draws("Two dogs run.")


def test_a_suppressed_thing_is_called_by_its_kind() -> None:
    assert _draws("A dog runs.", suppress=1.0) == {"An animal runs."}


def test_a_suppressed_kind_does_not_go_by_its_own_name() -> None:
    table = SwapTable([Thing("person", "people", "person")])
    random = np.random.default_rng(0)
    for caption, gone in (
        ("A person sits.", "A thing sits."),
        ("Two people sit.", "Two things sit."),
    ):
        swap = table.draw(caption, random, suppress=1.0)
        assert swap is not None and swap.caption == gone


def test_a_kind_that_is_taken_away_takes_all_of_its_kind_along() -> None:
    table = SwapTable([*TABLE.things, Thing("person", "people", "person")])
    random = np.random.default_rng(0)
    drawn = [table.draw("A man holds two men and a dog.", random, suppress=1.0) for _ in range(200)]
    found = {(s.source.name, s.caption) for s in drawn if s is not None and s.source is not None}
    assert found == {
        ("man", "A person holds two people and a dog."),
        ("person", "A thing holds two things and a dog."),
        ("dog", "A man holds two men and an animal."),  # no "animal" among the things
    }
    whole = sum(s is not None and s.source is table.things[-1] for s in drawn)
    assert 10 <= whole <= 50  # a quarter of one half


def test_an_inserted_thing_stands_beside_what_was_there() -> None:
    drawn = _draws("A dog runs fast.", insert=1.0)
    assert "A dog runs fast next to an elephant." in drawn
    assert all(c.startswith("A dog runs fast ") and c.endswith(".") for c in drawn)
    assert _draws("dog", insert=1.0) == {"dog and a man", "dog and an elephant"}


def test_without_insertions_the_draws_are_those_of_the_shipped_recipe() -> None:
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(40):
        assert TABLE.draw("A dog.", one, 0.2) == TABLE.draw("A dog.", other, 0.2, 0.0)
    assert one.random() == other.random()


def test_a_caption_without_things_has_no_swap() -> None:
    assert _draws("It is sunny.") == set()


def test_things_are_mined_from_captions_and_labels() -> None:
    captions = ["two dogs on the white beach", "a dog is running"] * 5
    names = {t.name for t in SwapTable.mine(captions, {"grand piano": 8}, at_least=5).things}
    assert {"dog", "grand piano"} <= names
    assert not {"dogs", "white", "running", "the"} & names
