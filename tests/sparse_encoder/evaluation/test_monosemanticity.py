from math import nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.monosemanticity import MonoSemanticityStats


def streamed(code: Tensor, embedding: Tensor, batch: int) -> MonoSemanticityStats:
    stats = MonoSemanticityStats(code.shape[1], embedding.shape[1])
    for rows in torch.arange(len(code)).split(batch):
        stats.add(code[rows], embedding[rows])
    return stats


def naive(activation: list[float], embedding: Tensor) -> float:
    """The definition: activations scaled to [0, 1], then a double loop over pairs."""
    low, high = min(activation), max(activation)
    if low == high:
        return nan
    w = [(a - low) / (high - low) for a in activation]
    e = embedding.double()
    n = len(w)
    pairs = [(w[i] * w[j], float(e[i] @ e[j])) for i in range(n) for j in range(n) if i < j]
    total = sum(weight for weight, _ in pairs)
    return sum(weight * cosine for weight, cosine in pairs) / total if total else nan


@given(
    seed=st.integers(0, 2**31 - 1),
    n=st.integers(1, 9),
    n_features=st.integers(1, 5),
    batch=st.integers(1, 4),
    shift=st.sampled_from([0.0, 1.0, -2.0]),  # 0 is a sparse code, the others are dense
)
def test_the_closed_form_equals_the_weighted_mean_over_all_pairs(
    seed: int, n: int, n_features: int, batch: int, shift: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    levels = torch.tensor([0.0, 0.0, 0.25, 0.7, 2.0])
    code = levels[torch.randint(0, 5, (n, n_features), generator=random)] + shift
    embedding = unit(torch.randn(n, 4, generator=random))
    expected = [naive(code[:, k].tolist(), embedding) for k in range(n_features)]
    stats = streamed(code, embedding, batch)
    assert stats.scores().tolist() == pytest.approx(expected, abs=2e-5, nan_ok=True)
    known = [value for value in expected if value == value]
    found = stats.summary()
    assert (found.n_features, found.undefined) == (len(known), n_features - len(known))
    assert found.mean == (pytest.approx(sum(known) / len(known), abs=2e-5) if known else None)


def test_the_scale_of_a_feature_does_not_matter() -> None:
    random = torch.Generator().manual_seed(3)
    code, embedding = torch.rand(8, 2, generator=random), unit(torch.randn(8, 4, generator=random))
    one, other = (streamed(c, embedding, 3).scores() for c in (code, code * 50))
    assert torch.allclose(one, other, atol=1e-5)


def test_dead_and_single_image_features_have_no_score() -> None:
    code = torch.tensor([[0.0, 1.3, 1.0], [0.0, 0.0, 0.7], [0.0, 0.0, 0.1]])
    scores = streamed(code, torch.eye(3), 2).scores()
    assert scores.isnan().tolist() == [True, True, False]
    found = streamed(code, torch.eye(3), 2).summary()
    assert (found.n_features, found.undefined, found.mean) == (1, 2, pytest.approx(0.0, abs=1e-7))


def test_no_image_has_no_score() -> None:
    stats = MonoSemanticityStats(2, 2)
    assert stats.scores().isnan().all()
    with pytest.raises(SparsightError, match="no image"):
        stats.summary()


def test_one_image_gives_no_score_instead_of_a_number() -> None:
    found = streamed(torch.ones(1, 3), torch.eye(2)[:1], 1).summary()
    assert (found.n_features, found.undefined, found.mean) == (0, 3, None)
