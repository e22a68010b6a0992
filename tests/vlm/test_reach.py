"""Which cells a region covers, where a clamp lands, and how much of the global code a region is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vlm.edits import Region
from vlm.reach import Reach, inside_share, reach, region_cells


def test_a_region_covers_the_cells_whose_centre_lies_in_it() -> None:
    left = region_cells((0, 0, 0.5, 1), (2, 3))  # centres at x = 1/6, 1/2, 5/6
    assert left.tolist() == [True, False, False, True, False, False]


def test_no_region_covers_every_cell() -> None:
    assert region_cells(None, (2, 3)).tolist() == [True] * 6


@pytest.mark.parametrize(
    ("region", "cell"),
    [((0.0, 0.0, 0.01, 0.01), 0), ((0.34, 0.9, 0.36, 1.0), 4), ((1 - 2**-53, 0, 1.0, 0.01), 2)],
)
def test_a_tiny_region_covers_the_cell_it_lies_in(region: Region, cell: int) -> None:
    assert region_cells(region, (2, 3)).nonzero().flatten().tolist() == [cell]


def test_codes_without_cells_have_none_to_cover() -> None:
    assert region_cells((0, 0, 0.5, 1), (0, 0)).shape == (0,)


@given(
    cut=st.floats(0.01, 0.99),
    rows=st.integers(1, 9),
    cols=st.integers(3, 9),
)
def test_two_halves_cover_each_cell_once_unless_one_is_tiny(
    cut: float, rows: int, cols: int
) -> None:
    left = region_cells((0, 0, cut, 1), (rows, cols))
    right = region_cells((cut, 0, 1, 1), (rows, cols))
    assert (left | right).all()
    if 0.5 / cols < cut < 1 - 0.5 / cols:
        assert not (left & right).any()


def reached(rule: Reach, cells: Tensor, ablated: list[Tensor]) -> list[int]:
    mask = reach(rule, len(cells), ablated, lambda: cells.double().square().sum(1))
    found: list[int] = mask.nonzero().flatten().tolist()
    return found


CELLS = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 9.0], [1.0, 0.0]])  # 4 cells, 2 features


@pytest.mark.parametrize(
    ("rule", "ablated", "cells"),
    [
        ("ablated", [0], [1, 3]),
        ("ablated", [0, 1], [0, 1, 2, 3]),
        ("ablated", [], [1, 2]),  # falls back to energy: ceil(4 / 3) cells
        ("energy", [0], [1, 2]),
        ("all", [0], [0, 1, 2, 3]),
    ],
)
def test_each_rule_reaches_its_cells(rule: Reach, ablated: list[int], cells: list[int]) -> None:
    assert reached(rule, CELLS, [CELLS[:, i] > 0 for i in ablated]) == cells


def test_an_ablation_with_a_region_draws_a_clamp_only_into_that_region() -> None:
    within = torch.tensor([True, True, False, False])
    assert reached("ablated", CELLS, [(CELLS[:, 0] > 0) & within]) == [1]


@given(seed=st.integers(0, 2**31 - 1), n=st.integers(1, 81))
def test_energy_reaches_a_third_of_the_cells_and_none_stronger_is_left_out(
    seed: int, n: int
) -> None:
    cells = torch.rand(n, 5, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(n, dtype=torch.bool)
    mask[reached("energy", cells, [])] = True
    energy = cells.square().sum(1)
    assert int(mask.sum()) == math.ceil(n / 3)
    assert mask.all() or energy[mask].min() >= energy[~mask].max()


def test_the_share_of_the_global_code_is_that_of_the_activation_inside() -> None:
    column, inside = torch.tensor([1.0, 3.0, 0.0, 4.0]), torch.tensor([True, True, False, False])
    assert inside_share(column, inside, (0, 0, 1, 0.5)) == 0.5
    assert inside_share(column, ~inside & False, (0, 0, 1, 0.5)) == 0.0
    assert inside_share(column, inside | True, (0, 0, 1, 0.5)) == 1.0


def test_the_share_of_an_inactive_feature_is_the_area() -> None:
    region = (0.0, 0.0, 0.5, 0.5)
    assert inside_share(torch.zeros(4), torch.tensor([True] * 4), region) == 0.25
