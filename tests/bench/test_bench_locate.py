"""The interventions of bench/locate.py."""

import numpy as np
import pytest
import torch
from PIL import Image

from bench.locate import Masking, _hit, masking_lines, paint_over, paste


def test_only_the_named_cells_are_painted_over() -> None:
    pixels = Image.effect_noise((93, 57), 90).convert("RGB")
    before, after = np.asarray(pixels), np.asarray(paint_over(pixels, [0, 5, 8], (3, 3)))
    for cell in range(9):
        row, col = divmod(cell, 3)
        there = np.s_[19 * row : 19 * (row + 1), 31 * col : 31 * (col + 1)]
        if cell in (0, 5, 8):
            assert np.ptp(after[there].reshape(-1, 3), axis=0).max() == 0
        else:
            assert (after[there] == before[there]).all()


def test_all_cells_painted_over_leave_nothing_of_the_picture() -> None:
    pixels = Image.effect_noise((50, 41), 90).convert("RGB")
    assert len(paint_over(pixels, range(81), (9, 9)).getcolors() or []) == 1


@pytest.mark.parametrize("quadrant", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("size", [(40, 40), (10, 80), (200, 30)])
def test_a_pasted_thing_lies_in_its_quadrant_alone(
    quadrant: tuple[int, int], size: tuple[int, int]
) -> None:
    drawn = np.asarray(
        paste(Image.new("RGB", (101, 67)), Image.new("RGB", size, "white"), quadrant)
    )
    rows, cols = drawn.any(2).any(1).nonzero()[0], drawn.any(2).any(0).nonzero()[0]
    down, across = quadrant
    assert rows.min() >= (34 if down else 0) and rows.max() < (67 if down else 33)
    assert cols.min() >= (51 if across else 0) and cols.max() < (101 if across else 50)
    assert len(rows) >= 32 or len(cols) >= 49  # as large as fits


@pytest.mark.parametrize(
    ("cell", "quadrant", "hit"),
    [
        (0, (0, 0), True),
        (3, (0, 0), True),
        (4, (0, 0), False),  # the middle column lies in neither half
        (4, (0, 1), False),
        (5, (0, 1), True),
        (80, (1, 1), True),
        (40, (1, 1), False),
        (72, (0, 0), False),
    ],
)
def test_a_hit_is_a_maximum_whose_cell_has_its_centre_in_the_quadrant(
    cell: int, quadrant: tuple[int, int], hit: bool
) -> None:
    cells = torch.zeros(81)
    cells[cell] = 1
    assert _hit(cells, (9, 9), quadrant) == hit


def test_a_map_without_activation_is_a_miss() -> None:
    assert not _hit(torch.zeros(81), (9, 9), (0, 0))


def test_the_ratio_is_of_the_mean_falls() -> None:
    falls = [Masking(0.4, 0.1), Masking(0.2, 0.2)] * 10
    lines = list(masking_lines(falls, 9, np.random.default_rng(0)))
    assert "strongest cells 30.0 %, random cells 15.0 %" in lines[1]
    assert lines[2].startswith("  ratio 2.00 (1.")
    assert "50 % (10/20" in lines[3]
