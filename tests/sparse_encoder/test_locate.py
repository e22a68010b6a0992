"""Cell maps as numbers: the sum, its maximum, the region around it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.locate import REGION_SHARE, CellMap, cell_map


def random_codes(seed: int, grid: tuple[int, int] = (3, 4), features: int = 6) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(1 + grid[0] * grid[1], features, generator=generator).relu()
    return Codes.from_dense(rows, grid)


@given(
    seed=st.integers(0, 2**31 - 1), features=st.lists(st.integers(0, 5), min_size=1, unique=True)
)
def test_a_map_is_the_sum_of_the_dense_cells_without_the_global_code(
    seed: int, features: list[int]
) -> None:
    codes = random_codes(seed)
    found = cell_map(codes, features).cells
    torch.testing.assert_close(found, codes.dense()[1:, features].sum(1).view(3, 4))


@given(seed=st.integers(0, 2**31 - 1))
def test_the_region_holds_the_strongest_cell_and_no_row_or_column_below_the_share(
    seed: int,
) -> None:
    found = CellMap((0,), torch.rand(5, 7, generator=torch.Generator().manual_seed(seed)))
    assert found.strongest is not None and found.region is not None
    row, col = found.strongest
    assert found.cells[row, col] == found.cells.max()
    x0, y0, x1, y1 = found.region
    assert x0 <= col / 7 < x1 <= 1 and y0 <= row / 5 < y1 <= 1
    inside = found.cells[round(y0 * 5) : round(y1 * 5), round(x0 * 7) : round(x1 * 7)]
    strong = inside >= REGION_SHARE * found.cells.max()
    for edge in (strong[0], strong[-1], strong[:, 0], strong[:, -1]):
        assert bool(edge.any())


def test_a_strong_cell_that_touches_the_maximum_nowhere_is_not_in_its_region() -> None:
    cells = torch.tensor([[4.0, 2.0, 0.0, 3.0], [0.0, 2.0, 0.0, 0.0], [1.9, 0.0, 2.5, 0.0]])
    assert CellMap((0,), cells).region == (0.0, 0.0, 2 / 4, 2 / 3)  # 2.5 meets 2.0 at a corner only


def test_a_feature_that_is_in_no_cell_has_no_place() -> None:
    rows = torch.zeros(5, 3)
    rows[0, 1] = 1.0  # the global code alone
    found = cell_map(Codes.from_dense(rows, (2, 2)), [1])
    assert (found.strongest, found.region) == (None, None)
    assert found.to_json() == {
        "features": [1],
        "cells": [[0.0, 0.0], [0.0, 0.0]],
        "strongest": None,
        "region": None,
    }


@pytest.mark.parametrize("feature", [-1, 6, 10**9])
def test_a_feature_that_there_is_not_is_refused_by_name(feature: int) -> None:
    with pytest.raises(SparsightError, match=f"{feature} is none of .* 0..5") as caught:
        cell_map(random_codes(0), [0, feature])
    assert caught.value.param == "feature"


def test_codes_without_cells_are_refused() -> None:
    with pytest.raises(SparsightError, match="keeps no cells") as caught:
        cell_map(Codes.from_dense(torch.ones(1, 3)), [0])
    assert caught.value.code == "no_cells"


def test_codes_of_two_photographs_have_no_one_map() -> None:
    with pytest.raises(ValueError, match="2 images"):
        cell_map(Codes.cat([random_codes(0), random_codes(1)]), [0])
