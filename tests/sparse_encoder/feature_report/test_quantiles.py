"""What percentiles say of a distribution, and no more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.feature_report.quantiles import histogram, quantiles
from sparse_encoder.feature_search.card import FeatureCard


def a_card(dead: bool = False, **more: object) -> FeatureCard:
    return FeatureCard(0, "dog", (), 1.0, 0.0 if dead else 0.1, 1.0, 2.0, 3.0, 4.0, 0.5, dead, more)


def test_the_percentiles_of_an_atlas_are_points_from_zero_to_the_maximum() -> None:
    assert quantiles(a_card()) == [(0, 0), (0.5, 1), (0.9, 2), (0.99, 3), (1, 4)]


def test_further_percentiles_join_them_and_what_is_none_does_not() -> None:
    points = quantiles(a_card(p25=0.5, p75=None, p=3.0, place="p10", p0=0.1))
    assert points == [(0, 0), (0.25, 0.5), (0.5, 1), (0.9, 2), (0.99, 3), (1, 4)]


def test_a_dead_feature_has_no_distribution() -> None:
    assert quantiles(a_card(dead=True)) == []
    middles, shares = histogram([], 10)
    assert len(middles) == len(shares) == 0


def test_a_bar_between_two_percentiles_has_the_share_between_them() -> None:
    middles, shares = histogram(quantiles(a_card()), 4)
    assert middles.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert shares.tolist() == pytest.approx([0.5, 0.4, 0.09, 0.01])


@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=4), st.integers(1, 60))
def test_bars_add_up_to_all_activations(values: list[float], n_bins: int) -> None:
    p50, p90, p99, top = sorted(values)
    card = FeatureCard(0, "", (), 0.0, 0.1, p50, p90, p99, top, 0.5, False, {})
    middles, shares = histogram(quantiles(card), n_bins)
    assert len(middles) == n_bins
    assert np.all(shares >= 0) and shares.sum() == pytest.approx(1)
