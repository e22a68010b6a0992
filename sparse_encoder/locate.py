"""Where in a photograph features are active: their cell map, as numbers.

The head is one map for the pooled vector and for each cell, so an activation in the global code has a
place without any further model (Sparse CLIP, arXiv 2601.20075). A map of several features is the sum
of their activations. Of 400 objects pasted into a quadrant of a photograph, the maximum fell into it
for 81 % with the one feature of the strongest claim to the label, for 84 % with four and 87 % with
sixteen; dividing each feature by its p99 first changed nothing (``python -m bench.locate``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError

REGION_SHARE = 0.5  # of the maximum: cells that reach it and touch one another are the region

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class CellMap:
    """The cells of one photograph in which given features are active; read-only."""

    features: tuple[int, ...]
    cells: Tensor  # (rows, cols), sum of raw activations, 0 or above, rows from the top

    @property
    def is_active(self) -> bool:
        """Whether any of the features is active in any cell."""
        return bool((self.cells > 0).any())

    @property
    def strongest(self) -> tuple[int, int] | None:
        """(row, col) of the largest sum, the upper left of equal ones; None where none is active."""
        if not self.is_active:
            return None
        row, col = divmod(int(self.cells.argmax()), self.cells.shape[1])
        return row, col

    @property
    def region(self) -> Box | None:
        """Box of the strongest region, (x0, y0, x1, y1) in fractions of the upright photograph.

        The region is the strongest cell and those that are joined to it by sides, all of at least
        `REGION_SHARE` of its sum. None where no cell is active.
        """
        if (start := self.strongest) is None:
            return None
        inside = _joined(self.cells >= REGION_SHARE * self.cells.max(), start)
        n_rows, n_cols = self.cells.shape
        rows, cols = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        return (
            int(cols.min()) / n_cols,
            int(rows.min()) / n_rows,
            (int(cols.max()) + 1) / n_cols,
            (int(rows.max()) + 1) / n_rows,
        )

    def to_json(self) -> dict[str, Any]:
        """``features``, ``cells`` (rows from the top), ``strongest`` [row, col] and ``region``."""
        return {
            "features": list(self.features),
            "cells": self.cells.tolist(),
            "strongest": None if self.strongest is None else list(self.strongest),
            "region": None if self.region is None else list(self.region),
        }


def cell_map(codes: Codes, features: Sequence[int]) -> CellMap:
    """The map of these features, summed, in the one photograph of `codes`.

    Raises SparsightError for a feature that there is not, and for codes that hold no cells.
    """
    if codes.n_cells == 0:
        raise SparsightError(
            "this model keeps no cells, so a feature has no place in its photographs; "
            "use a model whose image trunk gives a grid",
            code="no_cells",
        )
    for feature in features:
        refuse_no_feature(feature, codes.n_features)
    if codes.n_images != 1:
        raise ValueError(f"codes of {codes.n_images} images, a map is of one")
    # Only the wanted entries are looked at: a dense photograph of 55,296 features is 18 MB.
    row = torch.repeat_interleave(torch.arange(codes.n_rows), codes.offset.diff())
    wanted = torch.isin(codes.index, torch.tensor(list(features), dtype=torch.int64)) & (row > 0)
    cells = torch.zeros(codes.n_cells).index_add(0, row[wanted] - 1, codes.value[wanted])
    return CellMap(tuple(features), cells.view(codes.grid))


def refuse_no_feature(feature: int, n_features: int) -> None:
    """Raises SparsightError for an index that is none of the model's."""
    if not 0 <= feature < n_features:
        raise SparsightError(
            f"feature {feature} is none of this model's features, 0..{n_features - 1}",
            param="feature",
        )


def _joined(passable: Tensor, start: tuple[int, int]) -> Tensor:
    """The cells (rows, cols) that are reached from `start` over sides of passable cells."""
    inside = torch.zeros_like(passable)
    todo = [start]
    while todo:
        row, col = todo.pop()
        if not (0 <= row < passable.shape[0] and 0 <= col < passable.shape[1]):
            continue
        if passable[row, col] and not inside[row, col]:
            inside[row, col] = True
            todo += [(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]
    return inside
