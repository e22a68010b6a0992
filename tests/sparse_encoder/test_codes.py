"""Compressed rows hold what the dense rows hold, and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_encoder.codes import Codes

seeds = st.integers(0, 2**31 - 1)
grids = st.sampled_from([(0, 0), (1, 1), (2, 3)])


def random_rows(seed: int, n_images: int, grid: tuple[int, int]) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    n_rows = n_images * (1 + grid[0] * grid[1])
    return (torch.randn(n_rows, 7, generator=random) - 0.5).relu()


@given(seed=seeds, n_images=st.integers(1, 4), grid=grids)
def test_dense_gives_back_the_rows(seed: int, n_images: int, grid: tuple[int, int]) -> None:
    rows = random_rows(seed, n_images, grid)
    codes = Codes.from_dense(rows, grid)
    assert torch.equal(codes.dense(), rows)
    assert (codes.value > 0).all()
    assert (codes.n_images, codes.n_cells) == (n_images, grid[0] * grid[1])


@given(seed=seeds, n_images=st.integers(1, 4), grid=grids)
def test_images_put_after_one_another_give_the_batch(
    seed: int, n_images: int, grid: tuple[int, int]
) -> None:
    codes = Codes.from_dense(random_rows(seed, n_images, grid), grid)
    again = Codes.cat([codes.image(i) for i in range(n_images)])
    assert again.sha256() == codes.sha256()
    assert torch.equal(again.offset, codes.offset)


def test_an_image_holds_its_own_rows_only() -> None:
    rows = random_rows(0, 3, (2, 3))
    codes = Codes.from_dense(rows, (2, 3))
    alone = Codes.from_dense(rows[7:14], (2, 3))
    assert torch.equal(codes.image(1).dense(), rows[7:14])
    assert codes.image(1).sha256() == alone.sha256()


def test_rows_of_zeros_are_kept_as_empty_rows() -> None:
    codes = Codes.from_dense(torch.zeros(2, 5))
    assert (codes.n_images, len(codes.value)) == (2, 0)
    assert codes.dense().shape == (2, 5)


def test_density_counts_the_global_rows_only() -> None:
    rows = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert Codes.from_dense(rows, (1, 1)).density() == pytest.approx(3 / 8)


@pytest.mark.parametrize(
    "other",
    [
        Codes.from_dense(torch.tensor([[1.0, 0.0, 2.5]])),
        Codes.from_dense(torch.tensor([[1.0, 2.0, 0.0]])),
        Codes.from_dense(torch.tensor([[1.0, 0.0, 2.0, 0.0]])),
        Codes.from_dense(torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])),
    ],
)
def test_other_codes_have_another_digest(other: Codes) -> None:
    codes = Codes.from_dense(torch.tensor([[1.0, 0.0, 2.0]]))
    assert codes.sha256() != other.sha256()
    assert codes.sha256() == Codes.from_dense(codes.dense()).sha256()


def test_another_grid_over_the_same_rows_has_another_digest() -> None:
    rows = random_rows(0, 1, (2, 3))
    assert Codes.from_dense(rows, (2, 3)).sha256() != Codes.from_dense(rows, (3, 2)).sha256()


def test_a_broken_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="5 rows are no whole number of images"):
        Codes.from_dense(torch.zeros(5, 3), (1, 1))


@pytest.mark.parametrize(
    "other", [Codes.from_dense(torch.zeros(2, 4), (1, 1)), Codes.from_dense(torch.zeros(2, 3))]
)
def test_codes_of_another_width_or_grid_are_not_mixed(other: Codes) -> None:
    with pytest.raises(ValueError, match="different width or grid"):
        Codes.cat([Codes.from_dense(torch.zeros(2, 3), (1, 1)), other])
