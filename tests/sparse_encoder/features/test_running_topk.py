"""The running top-k against one sort over all columns."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.features import running_topk
from sparse_encoder.features.running_topk import RunningTopK


def plain(value: torch.Tensor, k: int) -> tuple[list[list[float]], list[list[int]]]:
    """Best first, ties to the lower column, minus infinity is no entry."""
    values, places = [], []
    for row in value.tolist():
        best = sorted((-v, j) for j, v in enumerate(row) if v != -float("inf"))[:k]
        fill = k - len(best)
        values.append([-v for v, _ in best] + [-float("inf")] * fill)
        places.append([j for _, j in best] + [-1] * fill)
    return values, places


@given(
    seed=st.integers(0, 2**31 - 1),
    k=st.integers(1, 7),
    columns=st.integers(1, 60),
    block=st.integers(1, 60),
    levels=st.integers(1, 6),
    entries=st.integers(1, 200),
)
def test_it_keeps_what_a_sort_over_all_columns_keeps_however_they_are_cut(
    seed: int, k: int, columns: int, block: int, levels: int, entries: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    value = torch.randint(levels, (3, columns), generator=random).float()  # many ties
    value[torch.rand(value.shape, generator=random) < 0.2] = -torch.inf
    top = RunningTopK(3, k)
    with patch.object(running_topk, "MOST_ENTRIES", entries):  # rows in parts of one, two or all
        for start in range(0, columns, block):
            part = value[:, start : start + block]
            top.add(part, torch.arange(start, start + part.shape[1]))
    assert (top.value.tolist(), top.index.tolist()) == plain(value, k)


def test_rows_can_be_given_in_parts() -> None:
    value = torch.tensor([[1.0, 3.0], [2.0, 0.0], [5.0, 6.0]])
    whole, parts = RunningTopK(3, 1), RunningTopK(3, 1)
    whole.add(value, torch.arange(2))
    parts.add(value[:1], torch.arange(2), slice(0, 1))
    parts.add(value[1:], torch.arange(2), slice(1, 3))
    assert torch.equal(whole.index, parts.index)
    assert whole.index[:, 0].tolist() == [1, 0, 1]


def test_a_k_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        RunningTopK(2, 0)
