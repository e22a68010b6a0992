import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.evaluation.histogram import Histogram, linear_histogram, log_histogram

values = st.lists(st.floats(-1.5, 1.5) | st.just(math.nan), max_size=20)


@given(values=values, n_bins=st.integers(1, 5))
def test_each_number_is_in_the_bin_whose_edges_hold_it(values: list[float], n_bins: int) -> None:
    found = linear_histogram(torch.tensor(values, dtype=torch.float64), -1.0, 1.0, n_bins)
    expected = [0] * n_bins
    for value in values:
        if not math.isnan(value):
            place = [i for i in range(n_bins) if found.edges[i] <= value]
            expected[max(place, default=0)] += 1
    # An edge itself may round to either side.
    assert sum(found.counts) == sum(expected)
    assert sum(abs(a - b) for a, b in zip(found.counts, expected, strict=True)) <= 2 * sum(
        any(abs(v - e) < 1e-9 for e in found.edges) for v in values
    )


@given(values=st.lists(st.just(0.0) | st.floats(1e-300, 1e3), max_size=20))
def test_a_log_histogram_counts_every_positive_value(values: list[float]) -> None:
    found = log_histogram(torch.tensor(values, dtype=torch.float64), 4)
    positive = [v for v in values if v > 0]
    assert sum(found.counts) == len(positive)
    if positive:
        assert len(found.edges) == 5
        assert found.edges[0] <= min(positive) * (1 + 1e-6)
        assert found.edges[-1] >= max(positive) * (1 - 1e-6)


def test_values_a_decade_apart_fall_into_bins_of_a_decade() -> None:
    found = log_histogram(torch.tensor([0.0, 0.01, 0.02, 0.2, 10.0]), 3)
    assert found.counts == [2, 1, 1]
    assert found.edges == pytest.approx([0.01, 0.1, 1.0, 10.0])


def test_nothing_positive_has_no_bins() -> None:
    assert log_histogram(torch.zeros(3)) == Histogram([], [])
