"""The l1 penalty by chunks, against that of whole codes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_encoder.contrastive import l1_norm, unit
from sparse_encoder.head import SparseHead
from sparse_encoder.pretrain.chunked_l1 import chunked_l1_norm


@given(
    n=st.integers(1, 9),
    features=st.integers(1, 70),
    chunk=st.integers(1, 80),
    activation=st.sampled_from(["relu", "identity"]),
    seed=st.integers(0, 2**31 - 1),
)
def test_value_and_gradients_equal_those_of_whole_codes_empty_rows_too(
    n: int, features: int, chunk: int, activation: str, seed: int
) -> None:
    torch.manual_seed(seed)
    head = SparseHead(5, features, -0.4, activation)
    x = torch.randn(n, 5)
    x[0] = 0  # under biases below 0 no feature of it is active
    found = []
    for loss in (lambda x: chunked_l1_norm(x, head, chunk), lambda x: l1_norm(unit(head(x)))):
        leaf = x.clone().requires_grad_()
        head.zero_grad()
        value = loss(leaf)
        value.backward()
        found.append([value.detach(), leaf.grad, head.weight.grad, head.bias.grad])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


class Largest(TorchDispatchMode):
    """The most entries of any tensor that an operation made, weights apart."""

    def __init__(self, apart: int) -> None:
        super().__init__()
        self.apart, self.entries = apart, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (list, tuple)) else [made]:
            if isinstance(tensor, torch.Tensor) and self.apart not in tensor.shape:
                self.entries = max(self.entries, tensor.numel())
        return made


def test_no_tensor_is_as_wide_as_the_codes() -> None:
    torch.manual_seed(0)
    head, x = SparseHead(4, 1000, -0.3), torch.randn(50, 4, requires_grad=True)
    with Largest(apart=4) as largest:
        chunked_l1_norm(x, head, chunk=64).backward()
    assert 50 * 64 <= largest.entries < 50 * 128


def test_one_active_feature_gives_one_and_equal_ones_the_root_of_their_number() -> None:
    head = SparseHead(2, 9, 0.0)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[0, 0] = 3.0
        head.weight[:, 1] = 1.0
    one = chunked_l1_norm(torch.tensor([[2.0, 0.0]]), head, chunk=4)
    all_alike = chunked_l1_norm(torch.tensor([[0.0, 5.0]]), head, chunk=4)
    assert one.item() == pytest.approx(1) and all_alike.item() == pytest.approx(3)
