"""AUC by ranks against counting every pair, and its interval."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.features.auc import auc_interval, auc_of_ranks, lower_bound, mid_ranks


def counted(activation: list[float], positive: list[bool]) -> float:
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, p in zip(activation, positive, strict=True)
        if p
        for b, q in zip(activation, positive, strict=True)
        if not q
    ]
    return sum(pairs) / len(pairs) if pairs else float("nan")


@given(seed=st.integers(0, 2**31 - 1), n=st.integers(1, 25), levels=st.integers(1, 5))
def test_ranks_give_the_share_of_pairs_that_are_in_order(seed: int, n: int, levels: int) -> None:
    random = torch.Generator().manual_seed(seed)
    activation = torch.randint(levels, (n, 3), generator=random).float()
    positive = (torch.rand(2, n, generator=random) < 0.4).float()
    found = auc_of_ranks(mid_ranks(activation), positive)
    for word in range(2):
        for feature in range(3):
            expected = counted(activation[:, feature].tolist(), positive[word].bool().tolist())
            assert found[word, feature].item() == pytest.approx(expected, abs=1e-6, nan_ok=True)


@given(seed=st.integers(0, 2**31 - 1), n=st.integers(4, 40))
def test_an_interval_holds_the_same_auc_between_its_ends(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    activation = random.integers(4, size=n).astype(np.float32)
    positive = np.arange(n) % 3 == 0
    found = auc_interval(activation, positive, seed=0)
    assert found.auc == pytest.approx(counted(activation.tolist(), positive.tolist()))
    assert 0 <= found.low <= found.auc + 1e-9
    assert found.auc - 1e-9 <= found.high <= 1


def test_the_same_seed_gives_the_same_interval() -> None:
    activation = np.random.default_rng(0).random(50).astype(np.float32)
    positive = np.arange(50) < 9
    assert auc_interval(activation, positive, seed=4) == auc_interval(activation, positive, seed=4)
    assert auc_interval(activation, positive, seed=4) != auc_interval(activation, positive, seed=5)


def test_an_auc_without_both_kinds_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="with the word and images without"):
        auc_interval(np.ones(3, np.float32), np.ones(3, bool), seed=0)


def test_fewer_images_give_a_lower_bound() -> None:
    auc = torch.tensor([0.8, 0.8, 1.0])
    bound = lower_bound(auc, torch.tensor([5.0, 50.0, 5.0]), z=1.0)
    assert bound[0] < bound[1] < 0.8
    assert bound[2] < 1
