"""Where an edit reaches: which cells, and how much of the global code.

- A **region** covers the cells whose centre lies in it (left and top edge in, right and bottom edge
  out, so that two regions side by side share no cell); a region too small to hold any centre covers
  the one cell that its own centre lies in.
- **Removing** (ablate, or a clamp or scale to 0) and **scale** without a region reach every cell.
- **Clamp and add without a region** put something new into the picture, and one rule says where
  (`DEFAULT_REACH`, chosen by measurement, written in every receipt): ``ablated`` = the cells where a
  feature removed by the same request was active (``energy`` where there is none), so that the cat
  sits where the dog was; ``energy`` = the third of the cells with the largest squared norm; ``all``.
- The **global code** says *what* is there, the cells say *where*. Without a region an edit applies
  to it in full. With one, clamp and add still do: a cat in the left half is a cat in the picture.
  Removing and scale are weighed by the share of the feature's cell activation inside the region: a
  dog removed on the left leaves the dog on the right. Active in no cell, the share is of the area.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from vlm.edits import Region

Reach = Literal["ablated", "energy", "all"]
DEFAULT_REACH: Reach = "ablated"
ENERGY_SHARE = 1 / 3  # of the cells, rounded up


def region_cells(region: Region | None, grid: tuple[int, int]) -> Tensor:
    """True for the cells that a region covers, (cells,) in reading order; all where it is None."""
    rows, cols = grid
    if region is None or rows * cols == 0:
        return torch.ones(rows * cols, dtype=torch.bool)
    x0, y0, x1, y1 = region
    x = (torch.arange(cols, dtype=torch.float64) + 0.5) / cols
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    inside = ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]  # (rows, cols)
    if not inside.any():
        row, col = int((y0 + y1) / 2 * rows), int((x0 + x1) / 2 * cols)
        inside[min(row, rows - 1), min(col, cols - 1)] = True  # a centre next to 1 rounds to 1
    return inside.flatten()


def reach(
    rule: Reach, n_cells: int, ablated: Sequence[Tensor], energies: Callable[[], Tensor]
) -> Tensor:
    """True for the cells that a clamp or add without a region reaches, (cells,).

    ablated: for each feature that the request removes the cells (cells,) where it was active and its
    removal reaches it. energies: squared norms (cells,) before any edit, asked for where they decide.
    """
    if rule == "all" or n_cells == 0:
        return torch.ones(n_cells, dtype=torch.bool)
    mask = torch.zeros(n_cells, dtype=torch.bool)
    if rule == "ablated":
        for cells in ablated:
            mask |= cells
        if mask.any():
            return mask
    order = energies().argsort(descending=True, stable=True)  # stable: a tie goes to the upper left
    mask[order[: math.ceil(n_cells * ENERGY_SHARE)]] = True
    return mask


def inside_share(column: Tensor, inside: Tensor, region: Region) -> float:
    """Share of one feature's cell activation that lies inside a region, in [0, 1].

    column: (cells,) activations, inside: (cells,) of region_cells. The region's area where the
    feature is active in no cell.
    """
    total = float(column.sum(dtype=torch.float64))
    if total == 0:
        x0, y0, x1, y1 = region
        return (x1 - x0) * (y1 - y0)
    outside = float(column[~inside].sum(dtype=torch.float64))
    return 1.0 - outside / total  # exactly 1 where nothing lies outside
