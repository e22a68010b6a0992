"""Kept, changed, untold and moved, case by case."""

import numpy as np
import pytest

from sparse_encoder.emergence.drift import drift, shares_word
from sparse_encoder.features.words import WordForms

NAN = float("nan")
FORMS = WordForms(lambda word: word.removesuffix("s"))


@pytest.mark.parametrize(
    ("own", "best", "then", "now", "told", "verdict", "moved"),
    [
        (0.9, 0.9, ["red"], ["dog rose"], True, "kept", False),  # the same images
        (0.5, 0.9, ["red"], ["dog rose"], True, "kept", False),  # the bound itself
        (0.1, 0.2, ["roses"], ["dog rose"], True, "kept", False),  # a word of its names
        (0.1, 0.2, ["red", "fruit"], ["dog rose"], True, "changed", False),
        (0.1, 0.8, ["red", "fruit"], ["dog rose"], True, "changed", True),
        (0.1, 0.8, ["rose"], ["dog rose"], True, "kept", True),
        (0.1, 0.8, ["red"], ["dog rose"], False, "untold", False),
        (NAN, NAN, ["red"], ["dog rose"], True, "changed", False),
        (0.1, 0.2, [], ["dog rose"], True, "changed", False),
        (0.9, 0.9, [], [], True, "kept", False),
    ],
)
def test_a_feature_is_judged_by_the_rule(
    own: float,
    best: float,
    then: list[str],
    now: list[str],
    told: bool,
    verdict: str,
    moved: bool,
) -> None:
    found = drift(
        np.array([own], np.float32),
        np.array([best], np.float32),
        [then],
        [now],
        np.array([told]),
        FORMS,
    )
    assert (found.verdict, found.moved.tolist()) == ([verdict], [moved])


def test_words_are_shared_whole_and_in_base_form_only() -> None:
    assert shares_word(["hot dogs"], ["a dog"], FORMS)
    assert not shares_word(["dogma"], ["dog"], FORMS)
    assert not shares_word([], [], FORMS)
