"""Which strength is chosen, and by what number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import trial

from vlm.steering_evaluation.strength import choose, harmonic_mean, score, strengths
from vlm.steering_evaluation.wishes import Strength

WEAK, STRONG = Strength(4, 1.0), Strength(4, 4.0)


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4))
def test_a_harmonic_mean_lies_between_its_least_and_its_largest_part(parts: list[float]) -> None:
    assert min(parts) - 1e-9 <= harmonic_mean(parts) <= max(parts) + 1e-9


def test_a_part_of_zero_makes_the_whole_zero() -> None:
    assert harmonic_mean([1.0, 0.0, 1.0]) == 0
    assert harmonic_mean([]) == 0


def test_the_number_of_hand_made_trials_is_as_computed_by_hand() -> None:
    trials = [trial(True, retained=0.5), trial(False, retained=1.0), trial(False, corrupt=True)]
    found = score(trials)
    assert (found.success, found.sound, found.retained) == (
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
        pytest.approx(0.75),
    )
    assert found.mean == pytest.approx(3 / (3 + 1.5 + 4 / 3))


def test_content_that_nobody_could_retain_is_no_part_of_the_number() -> None:
    assert score([trial(True)]).mean == 1.0


def test_a_corrupting_strength_is_not_chosen_for_its_success() -> None:
    tried = {
        WEAK: [trial(i < 6) for i in range(10)],
        STRONG: [trial(i < 7, corrupt=i >= 2) for i in range(10)],
    }
    assert choose(tried).common == WEAK


def test_what_else_is_retained_counts_unless_it_is_left_out() -> None:
    tried = {
        WEAK: [trial(i < 6, retained=0.9) for i in range(10)],
        STRONG: [trial(i < 9, retained=0.2) for i in range(10)],
    }
    assert choose(tried).common == WEAK
    assert choose(tried, retaining=False).common == STRONG
    assert choose(tried, retaining=False).of(next(iter(tried[WEAK])).wish.concept) == STRONG


def test_of_equal_strengths_the_middle_one_is_chosen() -> None:
    tried = {s: [trial(True)] for s in strengths((4, 1), (1.0, 4.0, 6.0))}
    # in order of K times dose: 1, 4 (K 1), 4 (K 4), 6, 16, 24
    assert choose(tried).common == Strength(1, 6.0)
    tried[Strength(1, 1.0)] = [trial(False)]
    tried[Strength(4, 6.0)] = [trial(True, corrupt=True)]
    assert choose(tried).common == Strength(1, 6.0)


def test_a_concept_departs_from_the_rest_only_on_evidence() -> None:
    def tried(n: int) -> dict[Strength, list[object]]:
        usual = [trial(True, "cat", image=i) for i in range(40)]
        never = [trial(False, "cat", image=i) for i in range(40)]
        return {
            WEAK: [*never, *(trial(True, "dog") for _ in range(n))],
            STRONG: [*usual, *(trial(False, "dog") for _ in range(n))],
        }

    assert choose(tried(1)).of("dog") == STRONG  # type: ignore[arg-type]
    assert choose(tried(40)).of("dog") == WEAK  # type: ignore[arg-type]
    assert choose(tried(40)).of("cat") == STRONG  # type: ignore[arg-type]


def test_choosing_among_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no strength"):
        choose({})


def test_a_suppression_has_no_dose_to_choose() -> None:
    assert strengths((1, 2), None) == [Strength(1), Strength(2)]
