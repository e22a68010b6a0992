import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.sparsity import SparsityStats


def random_codes(seed: int, n: int, n_features: int) -> Tensor:
    """About half zeros, a quarter between the two thresholds, a quarter above both."""
    random = torch.Generator().manual_seed(seed)
    levels = torch.tensor([0.0, 0.0, 0.0005, 0.7])
    return levels[torch.randint(0, 4, (n, n_features), generator=random)]


@given(
    seed=st.integers(0, 2**31 - 1),
    n=st.integers(1, 9),
    n_features=st.integers(1, 6),
    batch=st.integers(1, 4),
    threshold=st.sampled_from([0.0, 0.001]),
    min_inputs=st.integers(1, 3),
)
def test_counts_in_batches_equal_a_double_loop(
    seed: int, n: int, n_features: int, batch: int, threshold: float, min_inputs: int
) -> None:
    code = random_codes(seed, n, n_features)
    stats = SparsityStats(n_features)
    for rows in code.split(batch):
        stats.add(rows)
    table = [[value > threshold for value in row] for row in code.tolist()]
    active = [sum(row[k] for row in table) for k in range(n_features)]
    found = stats.summary(threshold, min_inputs)
    assert found.l0 == pytest.approx(sum(map(sum, table)) / n)
    assert found.density == pytest.approx(sum(map(sum, table)) / n / n_features)
    assert found.active_features == sum(count >= min_inputs for count in active)
    assert found.dead_features == active.count(0)
    assert found.empty_inputs == sum(not any(row) for row in table)
    assert (found.n_inputs, found.threshold, found.min_inputs) == (n, threshold, min_inputs)
    assert stats.density(threshold).tolist() == pytest.approx([count / n for count in active])
    assert stats.mean_activation().tolist() == pytest.approx(code.double().mean(0).tolist())


def test_an_activation_equal_to_the_threshold_is_not_active() -> None:
    stats = SparsityStats(2, thresholds=(0.5,))
    stats.add(torch.tensor([[0.5, 0.51]]))
    assert stats.summary(0.5).l0 == 1


def test_negative_entries_are_noticed() -> None:
    stats = SparsityStats(2)
    stats.add(torch.tensor([[0.0, 1.0]]))
    assert not stats.has_negative
    stats.add(torch.tensor([[-0.1, 1.0]]))
    stats.add(torch.tensor([[0.0, 1.0]]))
    assert stats.has_negative


def test_no_input_has_no_sparsity() -> None:
    for ask in (lambda s: s.summary(0.0), lambda s: s.density(0.0), lambda s: s.mean_activation()):
        with pytest.raises(SparsightError, match="at least one"):
            ask(SparsityStats(3))


def test_codes_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="2 features, expected 3"):
        SparsityStats(3).add(torch.zeros(1, 2))
