"""A feature's pictures are its strongest ones, with its own cells."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sparse_encoder.codes import Codes
from sparse_encoder.feature_report.pictures import LEVELS, TopPictures

FEATURES, KEPT = 5, 3


def some_codes(n: int, seed: int) -> list[Codes]:
    """Codes of n images with 2 x 2 cells, about a half of all entries zero."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, 5, FEATURES, generator=random).relu()
    return [Codes.from_dense(row, (2, 2)) for row in rows]


def gathered(codes: list[Codes]) -> TopPictures:
    pictures = TopPictures(FEATURES, n_kept=KEPT, grid=(2, 2))
    for one in codes:
        pictures.add(Image.new("RGB", (400, 200)), one)
    return pictures


@settings(max_examples=30)
@given(n=st.integers(0, 9), seed=st.integers(0, 2**31 - 1))
def test_the_running_best_are_those_of_all_pictures_at_once(n: int, seed: int) -> None:
    codes = some_codes(n, seed)
    pictures = gathered(codes)
    for feature in range(FEATURES):
        activation = [float(one.dense()[0, feature]) for one in codes]
        order = sorted((i for i in range(n) if activation[i] > 0), key=lambda i: -activation[i])
        shown = pictures.of(feature)
        assert [s.picture for s in shown] == order[:KEPT]
        assert [s.activation for s in shown] == [activation[i] for i in order[:KEPT]]
        for s in shown:
            cells = codes[s.picture].dense()[1:, feature]
            plain = LEVELS * cells / cells.max().clamp_min(1e-12)
            assert s.cells == plain.round().int().tolist()


def test_pictures_are_kept_small() -> None:
    assert gathered(some_codes(1, 0)).thumbnails[0].size == (224, 112)


def test_a_model_without_cells_has_pictures_without_maps() -> None:
    pictures = TopPictures(3)
    pictures.add(Image.new("RGB", (8, 8)), Codes.from_dense(torch.tensor([[0.0, 2.0, 0.0]])))
    assert [(s.picture, s.cells) for s in pictures.of(1)] == [(0, [])]
    assert pictures.of(0) == []


@pytest.mark.parametrize("grid", [(0, 0), (1, 4)])
def test_codes_of_another_grid_are_refused(grid: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="grid"):
        TopPictures(FEATURES, grid=grid).add(Image.new("RGB", (8, 8)), some_codes(1, 0)[0])
