"""Rankings are joined by the formula of reciprocal ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.feature_search.rank_fusion import SMOOTHING, fuse


def test_an_item_of_two_rankings_gets_the_sum_of_its_reciprocal_places() -> None:
    items, score = fuse([np.array([7, 3]), np.array([3, 9])])
    assert items.tolist() == [3, 7, 9]
    assert score.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_nothing_is_fused_of_nothing() -> None:
    items, score = fuse([])
    assert items.tolist() == score.tolist() == []


@given(st.lists(st.lists(st.integers(0, 9), unique=True, max_size=6), max_size=3))
def test_fusing_agrees_with_the_formula_written_out(rankings: list[list[int]]) -> None:
    plain: dict[int, float] = {}
    for ranking in rankings:
        for place, item in enumerate(ranking, start=1):
            plain[item] = plain.get(item, 0.0) + 1 / (SMOOTHING + place)
    items, score = fuse([np.array(ranking, dtype=np.int64) for ranking in rankings])
    assert dict(zip(items.tolist(), score.tolist(), strict=True)) == pytest.approx(plain)
    assert score.tolist() == sorted(score, reverse=True)
