"""Means over concepts."""

import pytest
from trials import trial

from vlm.steering_evaluation.concept_means import (
    concept_mean,
    corrupt_mean,
    rates,
    retained_mean,
    success_mean,
)


def test_a_concept_counts_once_however_many_photographs_it_has() -> None:
    trials = [*(trial(True, "cat") for _ in range(9)), trial(False, "dog")]
    assert success_mean(trials).mean == 0.5
    assert {c: r.eligible for c, r in rates(trials).items()} == {"cat": 9, "dog": 1}


def test_the_interval_holds_the_mean_and_narrows_with_the_number_of_concepts() -> None:
    few, many = concept_mean([0.0, 1.0] * 3), concept_mean([0.0, 1.0] * 60)
    for one in (few, many):
        assert one.low is not None and one.high is not None
        assert one.low < 0.5 < one.high
    assert many.high - many.low < few.high - few.low  # type: ignore[operator]
    assert concept_mean([0.0, 1.0] * 3) == few


def test_nothing_has_no_mean_and_says_so() -> None:
    assert str(concept_mean([])) == "-"
    assert concept_mean([]).to_json() == {"mean": None, "bootstrap_95": None, "concepts": 0}


def test_corrupt_and_retained_shares_are_means_over_concepts_too() -> None:
    trials = [
        trial(True, "cat", corrupt=True, retained=1.0),
        trial(True, "cat", retained=0.0),
        trial(True, "dog", retained=1.0),
        trial(True, "bus"),
    ]
    assert corrupt_mean(trials).mean == pytest.approx(1 / 6)
    assert retained_mean(trials).mean == pytest.approx(0.75)
