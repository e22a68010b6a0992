"""Cosines, the threshold of the second judge, and its agreement with the first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from trials import WORDS, embed, trial

from vlm.mention import Lexicon
from vlm.steering_evaluation.sbert import (
    Sbert,
    SbertJudge,
    agreement,
    best_threshold,
    soft_scores,
)


def test_a_text_is_embedded_once() -> None:
    asked: list[str] = []

    def counting(texts: list[str]) -> Tensor:
        asked.extend(texts)
        return embed(texts)

    sbert = Sbert(counting)
    first = sbert.cosine([("a dog", "dog"), ("a cat", "dog")])
    assert sbert.cosine([("a cat", "dog")]) == first[1:]
    assert sorted(asked) == ["a cat", "a dog", "dog"]
    assert first[0] == pytest.approx(1.0) and first[1] < 0.1


def test_an_answer_that_did_not_change_has_no_drift() -> None:
    sbert = Sbert(embed)
    assert sbert.drift("a dog", "a dog", WORDS) == 0
    assert sbert.drift("a dog", "a cat", WORDS) > 0.5
    assert sbert.drift("a dog", "a cat", []) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=30))
def test_no_other_threshold_separates_mentions_better(rows: list[tuple[int, bool]]) -> None:
    values, said = np.array([v / 20 for v, _ in rows]), np.array([s for _, s in rows])
    if said.all() or not said.any():
        assert best_threshold(values, said) == 0.5
        return

    def balanced(cut: float) -> float:
        return float(((values >= cut)[said].mean() + (values < cut)[~said].mean()) / 2)

    best = balanced(best_threshold(values, said))
    assert best >= max(balanced(cut / 40) for cut in range(-2, 44)) - 1e-9


def test_kappa_of_a_hand_made_table() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: Cohen's kappa is 0.4
    one = [True] * 25 + [False] * 25
    other = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    found = agreement(one, other)
    assert (found.n, found.share) == (50, pytest.approx(0.7))
    assert found.kappa == pytest.approx(0.4)


def test_a_judge_of_one_verdict_has_no_kappa() -> None:
    assert agreement([True, True], [True, True]).kappa is None
    assert agreement([], []).share is None


def test_the_second_judge_learns_its_threshold_from_unsteered_answers() -> None:
    lexicons = {word: Lexicon.for_concept(word) for word in WORDS}
    judge = SbertJudge.fit(Sbert(embed), ["A dog.", "A cat.", "A red bus."], lexicons)
    assert 0.1 < judge.threshold < 1
    assert judge.meets(trial(True, "cat", after="A cat."))
    assert not judge.meets(trial(False, "cat", after="A dog."))


def test_soft_scores_leave_out_what_a_task_does_not_have() -> None:
    found = soft_scores([trial(True, after="A cat.")], Sbert(embed))
    assert found.source_before is None and found.wins is None
    assert found.target_after == pytest.approx(1.0)
    assert found.target_before is not None and found.target_before < 0.1
