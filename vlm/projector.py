"""The projector: sparse codes to soft tokens of the language model.

Its first layer sums the rows of the active features only (sparse_linear.py). Means over a group of
cells are taken after that layer, which is linear, so the result equals projecting the mean code; and
an edited code has the sums of the photograph's plus what the changed columns add, less what an ablation
takes away beyond its zeros.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from vlm.changes import Change
from vlm.sparse_linear import sparse_linear

MOST_TIMES = 7.0  # what ablated features brought, the most that is taken away beyond it


@dataclass(frozen=True)
class ProjectorConfig:
    """Sizes of a projector. Soft tokens an image: 1 global + groups[0] * groups[1]."""

    features: int
    hidden: int  # of the language model
    grid: tuple[int, int] = (9, 9)  # cells of an image
    groups: tuple[int, int] = (3, 3)  # the cells are averaged into this many tokens
    # How much of what is left in the direction of ablated features is taken off the first layer's sums:
    # 0 nothing, 1 all of it, 2 as much again. See `Projector.edited_sums`.
    removal: float = 0.0

    def __post_init__(self) -> None:
        check_removal(self.removal)
        if any(g % n for g, n in zip(self.grid, self.groups, strict=True)):
            raise ValueError(f"grid {self.grid} cannot be cut into {self.groups} equal groups")

    @property
    def n_tokens(self) -> int:
        return 1 + self.groups[0] * self.groups[1]


def check_removal(removal: float) -> None:
    """Raises SparsightError for what is no removal."""
    if not 0 <= removal < math.inf:
        raise SparsightError(
            f"removal={removal}: expected a finite number from 0 up", param="removal"
        )


class Projector(nn.Module):
    """codes -> soft tokens: a sparse layer, a place of its own for each token, a residual layer.

    The first layer's rows live in the language model's input space, so that a feature can start
    as the embedding of its name (see projector_init.py).
    """

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.config = config
        # Rows are features, so that a code picks rows: (features, hidden).
        self.first = nn.Parameter(torch.randn(config.features, config.hidden) * 0.02)
        self.slot = nn.Parameter(torch.zeros(config.n_tokens, config.hidden))  # holds the bias too
        self.second = nn.Linear(config.hidden, config.hidden)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, codes: Codes) -> Tensor:
        """Soft tokens (images, 1 + groups, hidden); (images, 1, hidden) for codes without cells."""
        return self.finish(self.sums(codes))

    def forward_dense(self, rows: Tensor, grid: tuple[int, int]) -> Tensor:
        """The plain twin: the same from dense rows (images, 1 + cells, features)."""
        return self.finish(self._tokens(rows @ self.first, grid))

    def sums(self, codes: Codes) -> Tensor:
        """What the first layer makes of codes, a row a soft token (images, 1 + groups, hidden)."""
        value = codes.value.to(self.first.dtype)
        rows = sparse_linear(codes.index, value, codes.offset, self.first)
        # (images * (1 + cells), hidden)
        return self._tokens(rows.view(codes.n_images, 1 + codes.n_cells, -1), codes.grid)

    def edited_sums(self, sums: Tensor, change: Change, grid: tuple[int, int]) -> Tensor:
        """The `sums` of one image (1, 1 + groups, hidden) once its code is changed.

        Some sixty features of a photograph hold its dog; without the four that an edit sets to 0 the
        language model still sees one. But the rows of such features point the same way. So what is
        left in the direction of the ablated ones is taken off too, `removal` times (after directional
        ablation, Arditi et al. 2024, arXiv 2406.11717), but at most MOST_TIMES what they brought: a
        trace of a dog shall not cost the photograph all that is like dogs.
        """
        rows = self.first[list(change.features)]
        moved = (change.after - change.before).to(rows.dtype)[None]  # (1, 1 + cells, changed)
        sums = sums + self._tokens(moved, grid) @ rows
        if change.removed is None or not self.config.removal:
            return sums
        brought = self._tokens(change.removed.to(rows.dtype)[None], grid) @ rows
        size = brought.norm(dim=-1, keepdim=True)
        direction = brought / size.clamp(min=torch.finfo(rows.dtype).tiny)
        left = (sums * direction).sum(-1, keepdim=True).clamp(min=0)
        taken = torch.minimum(self.config.removal * left, MOST_TIMES * size)
        out: Tensor = sums - taken * direction
        return out

    def finish(self, sums: Tensor) -> Tensor:
        """Soft tokens (images, tokens, hidden) from `sums`."""
        tokens = sums + self.slot[: sums.shape[1]]
        out: Tensor = tokens + self.second(functional.gelu(tokens))
        return out

    def _tokens(self, rows: Tensor, grid: tuple[int, int]) -> Tensor:
        """Rows (images, 1 + cells, width) to one a soft token (images, 1 + groups, width)."""
        if grid == (0, 0):
            return rows
        return torch.cat([rows[:, :1], self._group_means(rows[:, 1:])], dim=1)

    def _group_means(self, cells: Tensor) -> Tensor:
        """Cells (images, rows * cols, width) to their group means (images, groups, width)."""
        (rows, cols), (down, across) = self.config.grid, self.config.groups
        cut = cells.view(len(cells), down, rows // down, across, cols // across, -1)
        return cut.mean(dim=(2, 4)).flatten(1, 2)
