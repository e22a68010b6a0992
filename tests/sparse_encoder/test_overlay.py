"""The map over the photograph, as pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_encoder.locate import CellMap
from sparse_encoder.overlay import draw_overlay


def one_cell(row: int, col: int, size: int = 4) -> CellMap:
    cells = torch.zeros(size, size)
    cells[row, col] = 3.0
    return CellMap((0,), cells)


def change(photo: Image.Image, located: CellMap) -> np.ndarray:
    """By how much each pixel changed, (height, width)."""
    after = np.asarray(draw_overlay(photo, located)).astype(int)
    return np.abs(after - np.asarray(photo).astype(int)).sum(2)


@pytest.mark.parametrize("size", [(64, 64), (61, 97), (200, 40), (5, 3), (1, 1)])
def test_the_overlay_has_the_photographs_size(size: tuple[int, int]) -> None:
    assert draw_overlay(Image.new("RGB", size, "grey"), one_cell(1, 1)).size == size


@pytest.mark.parametrize(("row", "col"), [(0, 0), (0, 3), (3, 0), (2, 1)])
def test_the_photograph_changes_most_inside_the_active_cell_and_not_far_from_it(
    row: int, col: int
) -> None:
    changed = change(Image.new("RGB", (80, 80), (90, 90, 90)), one_cell(row, col))
    middle = changed[20 * row + 6 : 20 * row + 14, 20 * col + 6 : 20 * col + 14]
    assert middle.mean() > 100
    rows, cols = np.indices(changed.shape) // 20
    far = (np.abs(rows - row) > 1) | (np.abs(cols - col) > 1)
    assert changed[far].max() == 0


def test_a_map_without_activation_leaves_the_photograph_as_it_is() -> None:
    photo = Image.effect_noise((30, 20), 80).convert("RGB")
    assert change(photo, CellMap((0,), torch.zeros(3, 3))).max() == 0


def test_the_photograph_itself_is_not_painted_on() -> None:
    photo = Image.new("RGB", (40, 40), "grey")
    draw_overlay(photo, one_cell(0, 0))
    assert photo.getcolors() == [(1600, (128, 128, 128))]


def test_stronger_cells_are_covered_more_and_painted_lighter() -> None:
    cells = torch.tensor([[1.0, 2.0, 4.0]])
    drawn = draw_overlay(Image.new("RGB", (90, 30), "black"), CellMap((0,), cells))
    grey = np.asarray(drawn.convert("L"))[13:17]
    weak, middle, strong = (grey[:, at : at + 4].mean() for at in (10, 43, 76))
    assert weak < middle < strong


@pytest.mark.parametrize("ground", ["black", "white"])
def test_the_frame_shows_on_any_ground(ground: str) -> None:
    photo = Image.new("RGB", (400, 400), ground)
    assert change(photo, one_cell(1, 2))[102, 200:300].max() > 300
