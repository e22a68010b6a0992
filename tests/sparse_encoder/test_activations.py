"""The activations' laws, each rule against a plain loop, and the threshold that inference uses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.activations import BatchTopK, batch_topk, check_activation, relu, topk
from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead


def _pre_code(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 2**31 - 1), k=st.integers(1, 16))
def test_topk_keeps_what_sorting_each_row_keeps(seed: int, k: int) -> None:
    pre_code = _pre_code(seed, 5, 16)
    code = topk(pre_code, k)
    for row, kept in zip(pre_code, code, strict=True):
        best = sorted(range(16), key=lambda i: -row[i])[:k]
        expected = [float(row[i]) if i in best and row[i] > 0 else 0.0 for i in range(16)]
        assert kept.tolist() == expected


@given(seed=st.integers(0, 2**31 - 1), k=st.integers(1, 16), rows=st.integers(1, 7))
def test_batch_topk_keeps_what_sorting_the_whole_batch_keeps(seed: int, k: int, rows: int) -> None:
    pre_code = _pre_code(seed, rows, 16)
    best = pre_code.flatten().sort(descending=True).values[: k * rows]
    expected = torch.where((pre_code >= best[-1]) & (pre_code > 0), pre_code, 0.0)
    assert torch.equal(batch_topk(pre_code, k), expected)


@given(seed=st.integers(0, 2**31 - 1), shift=st.floats(-3, 3))
def test_no_rule_adds_or_changes_an_active_feature_of_relu(seed: int, shift: float) -> None:
    pre_code = _pre_code(seed, 4, 12) + shift
    for code in (topk(pre_code, 3), batch_topk(pre_code, 3)):
        assert (code >= 0).all()
        assert torch.equal(code[code > 0], relu(pre_code)[code > 0])


def test_rows_of_all_leading_axes_share_one_batch() -> None:
    pre_code = _pre_code(0, 2, 3, 8)
    flat = batch_topk(pre_code.reshape(6, 8), 2)
    assert torch.equal(batch_topk(pre_code, 2).reshape(6, 8), flat)


@pytest.mark.parametrize("rule", [topk, batch_topk])
def test_the_gradient_reaches_kept_entries_alone(rule) -> None:
    pre_code = _pre_code(1, 3, 8).requires_grad_()
    code = rule(pre_code, 2)
    code.sum().backward()
    assert pre_code.grad is not None
    assert torch.equal(pre_code.grad, (code > 0).float())


def test_topk_passes_the_gradient_check_where_the_order_is_clear() -> None:
    pre_code = torch.tensor([[3.0, 1.0, -2.0, 2.0], [0.5, 4.0, 1.5, -1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: topk(x, 2), pre_code.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: batch_topk(x, 2), pre_code)


def test_the_threshold_approaches_the_mean_of_the_least_kept_entries() -> None:
    torch.manual_seed(0)
    rule, least = BatchTopK(4, momentum=0.9), []
    for _ in range(200):
        code = rule(torch.randn(64, 32))
        least.append(float(code[code > 0].min()))
    mean = sum(least[100:]) / 100
    assert abs(float(rule.threshold) - mean) < 0.02
    assert min(least) < float(rule.threshold) < max(least)


def test_after_training_a_rows_code_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    rule = BatchTopK(4)
    for _ in range(5):
        rule(torch.randn(64, 32))
    pre_code = torch.randn(16, 32)
    trained = rule(pre_code[:1]), rule(pre_code)[:1]
    assert not torch.equal(*trained)  # while training it does
    rule.eval()
    assert torch.equal(rule(pre_code[:1]), rule(pre_code)[:1])
    assert 2 < (rule(torch.randn(400, 32)) > 0).float().sum(1).mean() < 6  # about k = 4


def test_batches_without_a_positive_entry_leave_the_threshold_alone() -> None:
    rule = BatchTopK(2)
    rule(-torch.ones(4, 8))
    assert float(rule.threshold) == 0
    rule(torch.full((4, 8), 0.5))
    rule(-torch.ones(4, 8))
    assert float(rule.threshold) == 0.5


def test_evaluation_moves_no_threshold() -> None:
    rule = BatchTopK(2)
    rule(torch.rand(4, 8))
    before = rule.threshold.clone()
    rule.eval()(torch.rand(4, 8) * 9)
    assert torch.equal(rule.threshold, before)


@settings(max_examples=20)
@given(activation=st.sampled_from(["relu", "topk", "identity"]), seed=st.integers(0, 2**31 - 1))
def test_heads_without_a_threshold_save_weight_and_bias_alone(activation: str, seed: int) -> None:
    torch.manual_seed(seed)
    head = SparseHead(8, 32, activation=activation, k=4)
    assert set(head.state_dict()) == {"weight", "bias"}


def test_a_batch_topk_head_keeps_its_threshold_through_its_state_dict() -> None:
    torch.manual_seed(0)
    head = SparseHead(8, 32, 0.0, "batch_topk", k=4)
    head(torch.randn(64, 8))
    other = SparseHead(8, 32, 0.0, "batch_topk", k=4).eval()
    other.load_state_dict(head.state_dict())
    x = torch.randn(5, 8)
    assert torch.equal(other(x), head.eval()(x))
    assert not torch.equal(other(x), other.pre_code(x).relu())


def test_a_topk_head_gives_at_most_k_features() -> None:
    torch.manual_seed(0)
    code = SparseHead(8, 64, 0.0, "topk", k=5)(torch.randn(32, 8))
    assert ((code > 0).sum(1) <= 5).all() and (code > 0).sum() > 32


def test_an_activation_that_the_head_was_not_made_with_is_refused() -> None:
    head = SparseHead(8, 32)
    head.activation = "batch_topk"
    with pytest.raises(SparsightError, match="made without it"):
        head(torch.zeros(1, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["relu", "topk", "batch_topk", "identity"])
def test_every_activation_keeps_the_dtype(activation: str, dtype: torch.dtype) -> None:
    head = SparseHead(8, 32, activation=activation, k=4).to(dtype)
    assert head(torch.ones(3, 8, dtype=dtype)).dtype == dtype
    assert head.eval()(torch.ones(3, 8, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("activation", "k", "word"),
    [
        ("gelu", 1, "relu or identity"),
        ("", 1, "expected relu"),
        ("topk", 0, "expected 1 to 8"),
        ("topk", 9, "k=9"),
        ("batch_topk", -1, "k=-1"),
    ],
)
def test_bad_activations_are_named(activation: str, k: int, word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        check_activation(activation, k, 8)
