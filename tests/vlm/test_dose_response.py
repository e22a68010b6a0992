"""What follows from a curve: hand-computed cases, and laws over all curves."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vlm.dose_response import CORRUPTION_BAR, DosePoint, effective, is_monotone, safe_max
from vlm.rate import Rate

DOSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def curve(n: int, successes: list[int], corrupt: list[int]) -> list[DosePoint]:
    return [
        DosePoint(dose, Rate(s, n), Rate(c, n))
        for dose, s, c in zip(DOSES, successes, corrupt, strict=False)
    ]


@st.composite
def curves(draw: st.DrawFn) -> list[DosePoint]:
    n = draw(st.integers(0, 80))
    counts = st.lists(st.integers(0, n), min_size=6, max_size=6)
    rare = st.lists(st.integers(0, min(n, 3)), min_size=6, max_size=6)
    return curve(n, draw(counts), draw(st.one_of(rare, counts)))


def test_safe_is_shown_by_the_upper_end_of_the_interval() -> None:
    assert safe_max(curve(36, [0] * 6, [1, 0, 1, 2, 0, 0])) == 1.0  # 2/36: at most 18.1 %
    assert safe_max(curve(36, [0] * 6, [2, 0, 0, 0, 0, 0])) is None
    assert safe_max(curve(34, [0] * 6, [1] * 6)) == 8.0  # 14.9 %
    assert safe_max(curve(33, [0] * 6, [1] * 6)) is None  # 15.3 %
    assert safe_max(curve(21, [0] * 6, [0] * 6)) is None  # too few to show anything
    assert safe_max(curve(35, [0] * 6, [0] * 6), bar=0.1) == 8.0  # 9.9 %
    assert safe_max(curve(34, [0] * 6, [0] * 6), bar=0.1) is None  # 10.2 %


def test_effective_is_the_first_dose_that_reaches_what_is_asked() -> None:
    points = curve(40, [0, 10, 30, 29, 40, 40], [0] * 6)
    assert effective(points, 8.0) == 1.0
    assert effective(points, 0.5) is None
    assert effective(points, 8.0, asked=0.9) == 4.0
    assert effective(points, None) is None


def test_a_fall_within_the_interval_is_still_monotone() -> None:
    # 20/40 has the interval 35.2-64.8 %: 15/40 = 37.5 % may be chance, 14/40 = 35 % is a fall
    assert is_monotone(curve(40, [0, 20, 15, 15, 15, 15], [0] * 6), 8.0)
    assert not is_monotone(curve(40, [0, 20, 20, 14, 20, 20], [0] * 6), 8.0)
    assert is_monotone(curve(40, [0, 20, 20, 14, 20, 20], [0] * 6), 1.0)  # beyond safe_max
    assert is_monotone(curve(40, [0] * 6, [0] * 6), None) is None


@given(curves())
def test_effective_is_safe_or_there_is_none(points: list[DosePoint]) -> None:
    safe = safe_max(points)
    found = effective(points, safe)
    assert found is None or (safe is not None and found <= safe)


@given(curves())
def test_every_dose_up_to_the_safe_one_is_within_the_bar_and_the_next_is_not(
    points: list[DosePoint],
) -> None:
    safe = safe_max(points) or 0.0
    assert all(p.corrupt.interval[1] <= CORRUPTION_BAR for p in points if p.dose <= safe)
    beyond = [p for p in points if p.dose > safe]
    assert not beyond or beyond[0].corrupt.interval[1] > CORRUPTION_BAR


@given(curves(), st.floats(0.1, 5), st.floats(0.1, 3))
def test_a_rising_change_of_the_doses_carries_all_three_along(
    points: list[DosePoint], scale: float, power: float
) -> None:
    moved = [replace(point, dose=scale * point.dose**power) for point in points]
    safe, safe_moved = safe_max(points), safe_max(moved)
    carried = {point.dose: new.dose for point, new in zip(points, moved, strict=True)}
    assert safe_moved == (None if safe is None else carried[safe])
    found = effective(points, safe)
    assert effective(moved, safe_moved) == (None if found is None else carried[found])
    assert is_monotone(moved, safe_moved) == is_monotone(points, safe)


@given(curves(), st.integers(0, 5))
def test_one_more_corrupt_answer_never_makes_a_larger_dose_safe(
    points: list[DosePoint], where: int
) -> None:
    rate = points[where].corrupt
    assume(rate.successes < rate.eligible)
    worse = list(points)
    worse[where] = replace(points[where], corrupt=Rate(rate.successes + 1, rate.eligible))
    assert (safe_max(worse) or 0.0) <= (safe_max(points) or 0.0)


@given(curves(), st.integers(0, 5))
def test_one_more_success_never_asks_for_a_larger_dose(points: list[DosePoint], where: int) -> None:
    rate = points[where].success
    assume(rate.successes < rate.eligible)
    better = list(points)
    better[where] = replace(points[where], success=Rate(rate.successes + 1, rate.eligible))
    safe = safe_max(points)
    none = float("inf")
    assert (effective(better, safe) or none) <= (effective(points, safe) or none)


@given(st.integers(1, 60), st.data())
def test_rates_that_never_fall_are_monotone(n: int, data: st.DataObject) -> None:
    successes = sorted(data.draw(st.lists(st.integers(0, n), min_size=6, max_size=6)))
    assert is_monotone(curve(n, successes, [0] * 6), 8.0)


@pytest.mark.parametrize("points", [[], curve(0, [0] * 6, [0] * 6)])
def test_without_an_answer_nothing_is_safe_or_effective(points: list[DosePoint]) -> None:
    assert safe_max(points) is None
    assert effective(points, safe_max(points)) is None
    assert is_monotone(points, safe_max(points)) is None
