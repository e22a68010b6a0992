"""Each corruption rule fires on its own kind of broken answer and on no sound one."""

from dataclasses import dataclass

import pytest

from sparse_encoder.errors import SparsightError
from vlm.corruption import CorruptionRules, Rule, is_repetitive


@dataclass(frozen=True)
class Unsteered:
    n_completion_tokens: int


RULES = CorruptionRules.fit([Unsteered(10)] * 20, [2.0] * 20)
LONG_AND_VARIED = (
    "A brown dog with a red collar leaps over a fallen tree while two children in yellow coats "
    "watch from the path, and behind them a woman carries bread, apples and a large green umbrella "
    "towards an old stone bridge near the quiet village."
)

ANSWERS: list[tuple[str, int, bool, float | None, tuple[Rule, ...]]] = [
    ("A dog runs on the beach.", 8, True, 2.0, ()),
    ("dog", 1, True, 9.0, ()),  # below four tokens likelihood says nothing
    ("A man doesn't wear a t-shirt; it's his friend's.", 14, True, 2.0, ()),
    (LONG_AND_VARIED, 30, True, 2.0, ()),
    ("", 1, True, None, ("empty",)),
    ("  ... 123 !", 6, True, None, ("empty",)),
    ("A dog runs", 64, False, 2.0, ("too_long",)),
    ("A dog runs on the beach.", 31, True, 2.0, ("too_long",)),  # limit is 3 x 10
    ("A dog runs on the beach.", 30, True, 2.0, ()),
    ("cat cat cat cat", 4, True, 2.0, ("repetition",)),
    ("cat cat cat", 3, True, 2.0, ()),
    ("a cat and a cat and a cat and", 9, True, 2.0, ("repetition",)),
    ("a cat and a cat and a dog", 8, True, 2.0, ()),
    ("grunkle xqzt dog runs on", 9, True, 2.0, ("non_words",)),  # two in five
    ("grunkle dog runs on grass", 9, True, 2.0, ()),  # one in five
    ("dog \u2603\u2603\u2603\u2603\u2603", 9, True, 2.0, ("non_words",)),
    ("A dog runs on the beach.", 8, True, 2.6, ("perplexity",)),  # limit is 2.0 + 0.5
    ("A dog runs on the beach.", 8, True, 2.5, ()),
    ("xqzt xqzt xqzt xqzt", 40, False, 9.0, ("too_long", "repetition", "non_words", "perplexity")),
]


@pytest.mark.parametrize(("answer", "n_tokens", "finished", "nll", "fired"), ANSWERS)
def test_exactly_the_right_rules_fire(
    answer: str, n_tokens: int, finished: bool, nll: float | None, fired: tuple[Rule, ...]
) -> None:
    assert RULES.judge(answer, n_tokens, finished, nll) == fired


def test_sixteen_words_of_few_different_pairs_are_repetitive() -> None:
    words = list("abcdacbdabdc" * 2)
    assert is_repetitive(" ".join(words))
    assert not is_repetitive(" ".join(words[:15]))


def test_long_text_that_compresses_too_well_is_repetitive() -> None:
    howl = " ".join("o" * n for n in range(1, 25))  # no two words are equal
    assert is_repetitive(howl)
    assert not is_repetitive(howl[:199])


def test_extra_words_count_as_words() -> None:
    answer = "yingyang grunkle xqzt"
    assert RULES.judge(answer, 6, True, None) == ("non_words",)
    taught = CorruptionRules.fit([Unsteered(10)], [None], ["Yingyang grunkle", "XQZT"])
    assert taught.judge(answer, 6, True, None) == ()


def test_thresholds_come_from_the_unsteered_answers_alone() -> None:
    answers = [Unsteered(n) for n in range(1, 102)]
    rules = CorruptionRules.fit(answers, [n / 10 for n in range(1, 102)])
    assert rules.length_limit == pytest.approx(3 * 96)
    # the 99th percentile of 0.4 .. 10.1: answers of 1 to 3 tokens are left out
    assert rules.nll_limit == pytest.approx(0.4 + 0.99 * 9.7 + 0.5)


def test_without_likelihoods_the_perplexity_rule_never_fires() -> None:
    rules = CorruptionRules.fit([Unsteered(10)] * 3, [None] * 3)
    assert rules.nll_limit is None
    assert rules.judge("A dog runs on the beach.", 8, True, 99.0) == ()


@pytest.mark.parametrize(
    ("answers", "nlls", "word"),
    [([], [], "at least one"), ([Unsteered(3)], [], "0 likelihoods for 1 answers")],
)
def test_too_little_to_fit_on_is_refused(
    answers: list[Unsteered], nlls: list[float | None], word: str
) -> None:
    with pytest.raises(SparsightError, match=word):
        CorruptionRules.fit(answers, nlls)
