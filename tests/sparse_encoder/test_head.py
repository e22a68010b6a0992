"""The sparse head's laws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.errors import SparsightError
from sparse_encoder.head import SparseHead


@given(seed=st.integers(0, 2**31 - 1), n_cells=st.integers(1, 12))
def test_the_pre_code_of_a_mean_is_the_mean_of_the_pre_codes(seed: int, n_cells: int) -> None:
    torch.manual_seed(seed)
    head = SparseHead(8, 32)
    cells = torch.randn(n_cells, 8)
    mean_last = head.pre_code(cells).mean(0)
    torch.testing.assert_close(head.pre_code(cells.mean(0)), mean_last, atol=1e-5, rtol=1e-5)


@given(seed=st.integers(0, 2**31 - 1))
def test_codes_are_never_negative(seed: int) -> None:
    torch.manual_seed(seed)
    assert (SparseHead(8, 32)(torch.randn(4, 8) * 10) >= 0).all()


def test_a_lower_bias_gives_a_sparser_code() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    density = [(SparseHead(8, 256, bias)(x) > 0).float().mean().item() for bias in (0, -1, -2)]
    assert density[0] > density[1] > density[2]


def test_folding_the_input_scale_leaves_the_codes_as_they_were() -> None:
    torch.manual_seed(0)
    head, x = SparseHead(8, 32), torch.randn(5, 8) * 3 + 7
    mean, deviation = torch.randn(8) + 7, torch.rand(8) + 0.5
    before = head((x - mean) / deviation)
    head.fold_input_scale(mean, deviation)
    torch.testing.assert_close(head(x), before, atol=1e-4, rtol=1e-4)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(SparsightError, match="relu or identity"):
        SparseHead(8, 32, activation="gelu")


def test_folding_the_input_scale_reaches_through_a_hidden_layer() -> None:
    torch.manual_seed(0)
    head = SparseHead(8, 16, activation="identity", hidden=12)
    x = torch.randn(5, 8) * 3 + 7
    mean, deviation = torch.randn(8) + 7, torch.rand(8) + 0.5
    before = head((x - mean) / deviation)
    head.fold_input_scale(mean, deviation)
    torch.testing.assert_close(head(x), before, atol=1e-4, rtol=1e-4)


def test_a_hidden_layer_is_a_gelu_between_two_projections() -> None:
    torch.manual_seed(0)
    head, x = SparseHead(8, 16, activation="identity", hidden=12), torch.randn(5, 8)
    assert head.hidden is not None
    inner = torch.nn.functional.gelu(x @ head.hidden.weight.T + head.hidden.bias)
    torch.testing.assert_close(head(x), inner @ head.weight.T + head.bias)
