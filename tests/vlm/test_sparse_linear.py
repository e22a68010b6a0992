"""The sparse layer against the dense product, each of its ways, forward and backward."""

from typing import Any, Literal
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import vlm.sparse_linear as sparse
from sparse_encoder.codes import Codes

Way = Literal["bag", "blocks", "filled"]
WAYS: tuple[Way, ...] = ("bag", "blocks", "filled")


def rows_of(seed: int, n_rows: int, n_features: int, density: float) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    rows = 0.1 + torch.rand(n_rows, n_features, generator=random)
    return rows * (torch.rand(n_rows, n_features, generator=random) < density)


def layer(codes: Codes, value: Tensor, weight: Tensor, way: Way) -> Tensor:
    """The layer, made to go one way within `small`."""
    return sparse.sparse_linear(codes.index, value, codes.offset, weight, dense=way == "filled")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param  # type: ignore[no-any-return]


def small(way: Way) -> Any:
    """Blocks of five features, so that a small weight has several; or none, for bags."""
    most = 10**9 if way == "bag" else 1
    return patch.multiple(sparse, BLOCK=5, BLOCKS_FROM=most, ENTRIES_FROM=0, CHUNK=7)


@given(
    seed=st.integers(0, 2**31 - 1),
    n_rows=st.integers(1, 9),
    n_features=st.integers(1, 23),
    hidden=st.integers(1, 17),
    density=st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7, 1.0]),
    way=st.sampled_from(WAYS),
)
def test_every_way_equals_the_dense_product_and_its_gradients(
    seed: int, n_rows: int, n_features: int, hidden: int, density: float, way: Way
) -> None:
    rows = rows_of(seed, n_rows, n_features, density)
    codes = Codes.from_dense(rows)
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_features, hidden, generator=random).requires_grad_()
    gradient = torch.randn(n_rows, hidden, generator=random)
    value = codes.value.clone().requires_grad_()
    with small(way):
        out = layer(codes, value, weight, way)
        to_value, to_weight = torch.autograd.grad(out, (value, weight), gradient)
    dense = rows.clone().requires_grad_()
    expected = dense @ weight
    to_rows, expected_to_weight = torch.autograd.grad(expected, (dense, weight), gradient)
    near = {"atol": 2e-5, "rtol": 1e-5}
    torch.testing.assert_close(out, expected, **near)
    torch.testing.assert_close(to_weight, expected_to_weight, **near)
    torch.testing.assert_close(to_value, to_rows[rows > 0], **near)
    # A feature that is active nowhere has a gradient of exactly zero.
    assert not to_weight[(rows == 0).all(0)].any()


def test_the_gradients_are_right_in_double_precision(way: Way) -> None:
    codes = Codes.from_dense(rows_of(0, 4, 13, 0.4))
    weight = torch.randn(13, 3, dtype=torch.float64, requires_grad=True)
    value = codes.value.double().requires_grad_()
    with small(way):
        assert torch.autograd.gradcheck(lambda v, w: layer(codes, v, w, way), (value, weight))


def test_only_the_gradients_that_are_wanted_are_made(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = Codes.from_dense(rows_of(0, 4, 13, 0.4))
    weight = torch.randn(13, 3)
    for wanted, unwanted in (("value", "to_weight"), ("weight", "to_value")):
        value, here = codes.value.clone(), weight.clone()
        (value if wanted == "value" else here).requires_grad_()
        with small(way), monkeypatch.context() as broken:
            broken.delattr(sparse._Block, unwanted)
            layer(codes, value, here, way).sum().backward()
        assert (value.grad is None, here.grad is None) == (wanted == "weight", wanted == "value")


@pytest.mark.parametrize(("density", "filled"), [(0.1, False), (0.9, True)])
def test_the_layer_goes_the_dense_way_above_its_crossing_alone(
    density: float, filled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    own = sparse._Block.filled
    monkeypatch.setattr(sparse._Block, "filled", lambda block: calls.append(1) or own(block))
    codes = Codes.from_dense(rows_of(0, 20, 50, density))
    weight = torch.randn(50, 3, requires_grad=True)
    sparse.sparse_linear(codes.index, codes.value, codes.offset, weight)
    assert bool(calls) == filled


def test_no_way_holds_a_matrix_of_rows_by_features(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_rows, n_features = 40, 1000
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    codes = Codes.from_dense(rows_of(0, n_rows, n_features, 0.3))
    weight = torch.randn(n_features, 4, requires_grad=True)
    value = codes.value.clone().requires_grad_()
    with small(way), monkeypatch.context() as blocks:
        blocks.setattr(sparse, "BLOCK", 100)
        blocks.setattr(sparse, "CHUNK", 1000)
        with Watch():
            layer(codes, value, weight, way).sum().backward()
    assert 0 < largest < n_rows * n_features / 2


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_without_gradients_an_image_has_the_same_bits_whatever_the_batch(density: float) -> None:
    """Greedy captions hang on it: they must not depend on who else asks."""
    codes = Codes.from_dense(rows_of(0, 30, 2000, density), (2, 2))
    weight = torch.randn(2000, 5)

    def project(some: Codes) -> Tensor:
        return sparse.sparse_linear(some.index, some.value, some.offset, weight)

    alone = torch.cat([project(codes.image(i)) for i in range(codes.n_images)])
    assert torch.equal(project(codes), alone)
    weight.requires_grad_()
    with torch.no_grad():
        assert torch.equal(project(codes), alone)
