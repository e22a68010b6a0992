"""Features are found by name in the order that a search promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_search.names import MATCHES, NameIndex, normalise_query

NAMES = ["hot dog", "dog", "dogs", "", "cat", "elephant", "Fire  Truck"]
FURTHER = [["sausage"], ["puppy"], [], [], ["dog"], ["ivory"], ["lorry"]]


def found(query: str) -> list[tuple[int, str]]:
    hits = NameIndex(NAMES, FURTHER).find(query)
    return [(int(j), MATCHES[m]) for j, m in zip(hits.feature, hits.match, strict=True)]


def test_equal_names_come_before_names_that_begin_so_and_these_before_names_that_hold_it() -> None:
    assert found("dog") == [(1, "equal"), (4, "equal"), (2, "start"), (0, "part")]


def test_a_misspelt_word_finds_the_name_that_it_is_close_to() -> None:
    assert found("elefant") == [(5, "close")]
    assert found("fire truk") == [(6, "close")]


def test_a_word_unlike_all_names_finds_nothing() -> None:
    assert found("dot") == []
    assert found("zzz") == []


def test_an_index_without_a_name_finds_nothing() -> None:
    hits = NameIndex(["", ""], [[], []]).find("dog")
    assert len(hits.feature) == len(hits.match) == 0


def test_closeness_is_twice_the_common_letters_over_all_letters() -> None:
    hits = NameIndex(["elephant"], [[]]).find("elefant")
    assert hits.closeness.tolist() == [pytest.approx(2 * 6 / 15)]  # e-l-e-a-n-t of 7 and 8


words = st.text("abc ", max_size=5)


@given(names=st.lists(words, min_size=1, max_size=8), query=st.text("abc", min_size=1, max_size=4))
def test_the_index_finds_what_a_look_at_every_name_finds(names: list[str], query: str) -> None:
    hits = NameIndex(names, [[] for _ in names]).find(query)
    plain = [" ".join(name.split()) for name in names]
    holding = {i for i, name in enumerate(plain) if name and query in name}
    by_match = {
        int(j) for j, m in zip(hits.feature, hits.match, strict=True) if MATCHES[m] != "close"
    }
    assert by_match == holding
    assert len(set(hits.feature.tolist())) == len(hits.feature)
    keys = list(zip(hits.match.tolist(), (-hits.closeness).tolist(), strict=True))
    assert keys == sorted(keys)
    equal = hits.feature[hits.is_equal].tolist()
    assert equal == [i for i, name in enumerate(plain) if name == query]
    assert np.all(hits.closeness[hits.is_equal] == 1)


@pytest.mark.parametrize(
    ("query", "words"), [("", "empty"), ("  \n", "empty"), ("x" * 101, "101 characters")]
)
def test_queries_that_ask_for_nothing_or_for_too_much_are_refused(query: str, words: str) -> None:
    with pytest.raises(SparsightError, match=words) as caught:
        normalise_query(query)
    assert caught.value.param == "query"
