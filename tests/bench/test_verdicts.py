from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.sparse_vs_dense.verdicts import (
    Claim,
    Frontier,
    Verdict,
    above,
    at_equal_l0,
    cap_sets_sparsity,
    relu_against,
    width_and_relu,
)

shares = st.lists(st.floats(0, 1), min_size=1, max_size=4)


@given(one=shares, other=shares)
def test_of_two_cases_at_most_one_is_above_and_then_in_the_mean_too(
    one: list[float], other: list[float]
) -> None:
    assert not (above(one, other) and above(other, one))
    if above(one, other):
        assert mean(one) > mean(other)


def test_overlapping_seeds_are_no_difference() -> None:
    assert not above([0.5, 0.7], [0.4, 0.5])
    assert above([0.51, 0.7], [0.4, 0.5])


RELU = {512: [0.50, 0.51], 1024: [0.55, 0.56], 2048: [0.60, 0.61]}
DENSE = {512: [0.58, 0.59], 1024: [0.58, 0.60], 2048: [0.57, 0.60]}
L0 = {512: [100.0, 104.0], 1024: [120.0, 120.0], 2048: [130.0, 131.0]}


def test_curves_as_the_paper_drew_them_hold_in_all_parts() -> None:
    verdict = width_and_relu(RELU, DENSE, L0)
    assert verdict.held is True
    assert verdict.word == "held"
    assert [claim.held for claim in verdict.claims] == [True] * 4


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"relu": {**RELU, 2048: [0.505, 0.52]}}, 0),
        ({"dense": {**DENSE, 2048: [0.61, 0.62]}}, 1),
        ({"dense": {**DENSE, 512: [0.505, 0.6]}}, 2),
        ({"relu_l0": {**L0, 2048: [240.0, 250.0]}}, 3),
    ],
)
def test_each_part_of_the_first_observation_can_fail_alone(
    changed: dict[str, dict[int, list[float]]], part: int
) -> None:
    curves = {"relu": RELU, "dense": DENSE, "relu_l0": L0, **changed}
    verdict = width_and_relu(**curves)
    assert [claim.held for claim in verdict.claims] == [i != part for i in range(4)]
    assert verdict.word == "held in 3 of 4 parts"


FRONTIER = Frontier(
    {"10": [0.2, 0.3], "50": [0.4, 0.5], "100": [0.6, 0.7]},
    {"10": [10.0, 10.0], "50": [100.0, 100.0], "100": [1000.0, 1000.0]},
)


def test_between_two_settings_accuracy_is_linear_in_log_l0_seed_by_seed() -> None:
    assert at_equal_l0(FRONTIER, 100.0) == pytest.approx([0.4, 0.5])
    assert at_equal_l0(FRONTIER, 10**1.5) == pytest.approx([0.3, 0.4])
    assert at_equal_l0(FRONTIER, 1000.0) == pytest.approx([0.6, 0.7])


@pytest.mark.parametrize("l0", [9.9, 1001.0])
def test_outside_of_the_measured_settings_nothing_is_made_up(l0: float) -> None:
    assert at_equal_l0(FRONTIER, l0) is None


@pytest.mark.parametrize(
    ("accuracy", "l0", "held"),
    [
        ([0.30, 0.39], 100.0, True),  # below ReLU's 0.4 to 0.5
        ([0.45, 0.60], 100.0, False),  # overlaps: no difference, so it is not beaten
        ([0.55, 0.60], 100.0, False),
        ([0.99, 0.99], 5000.0, None),  # nothing to compare with
    ],
)
def test_a_rival_is_judged_at_its_own_l0(
    accuracy: list[float], l0: float, held: bool | None
) -> None:
    verdict = relu_against({"TopK": Frontier({"k": accuracy}, {"k": [l0, l0]})}, FRONTIER)
    assert verdict.claims[0].held is held


def test_a_rival_that_wins_as_often_as_it_loses_is_not_beaten() -> None:
    rival = Frontier({"a": [0.1, 0.1], "b": [0.9, 0.9]}, {"a": [100.0, 100.0], "b": [100.0, 100.0]})
    assert relu_against({"L1": rival}, FRONTIER).held is False


CAP_L0 = {20.0: [50.0], 40.0: [80.0], 50.0: [90.0], 100.0: [200.0]}
CAP_ACCURACY = {20.0: [0.3], 40.0: [0.5], 50.0: [0.5], 100.0: [0.5]}


def test_the_third_observation_needs_l0_to_fall_at_every_step() -> None:
    assert cap_sets_sparsity(CAP_ACCURACY, CAP_L0).held is True
    uneven = {**CAP_L0, 40.0: [95.0]}
    assert [c.held for c in cap_sets_sparsity(CAP_ACCURACY, uneven).claims] == [False, True, True]


def test_the_third_observation_needs_the_break_at_20_and_none_at_40() -> None:
    flat = {**CAP_ACCURACY, 20.0: [0.5]}
    assert [c.held for c in cap_sets_sparsity(flat, CAP_L0).claims] == [True, True, False]
    early = {**CAP_ACCURACY, 40.0: [0.4]}
    assert [c.held for c in cap_sets_sparsity(early, CAP_L0).claims] == [True, False, True]


def test_what_cannot_be_said_is_not_called_refuted() -> None:
    unknown = Claim("a", None, "")
    assert Verdict("o", [unknown, Claim("b", True, "")]).word == "cannot be said"
    assert Verdict("o", [unknown, Claim("b", False, "")]).word == "did not hold"
