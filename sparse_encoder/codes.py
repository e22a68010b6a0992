"""Sparse codes of one or more images, kept as compressed rows.

Row layout: image 0 global, image 0 cells in reading order, image 1 global, and so on. Values are
positive and un-normalised (normalisation belongs to the loss and to retrieval); those of a dense encoder,
the control, are of either sign. One dense batch of
81 cells x 4,096 features is 1.3 MB an image; as rows at 5 % density it is a twentieth of that.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Codes:
    """Compressed rows, never written to once made: row r holds features ``index[offset[r]:offset[r + 1]]``, ascending.

    index: (nnz,) int64, value: (nnz,) float32 and > 0, offset: (n_rows + 1,) int64.
    grid: (rows, cols) of the cells, (0, 0) where only the global code is held.
    """

    index: Tensor
    value: Tensor
    offset: Tensor
    n_features: int
    grid: tuple[int, int] = (0, 0)

    @property
    def n_cells(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def n_rows(self) -> int:
        return len(self.offset) - 1

    @property
    def n_images(self) -> int:
        return self.n_rows // (1 + self.n_cells)

    @classmethod
    def from_dense(cls, rows: Tensor, grid: tuple[int, int] = (0, 0)) -> "Codes":
        """From rows (n_images * (1 + cells), features), non-negative."""
        if len(rows) % (1 + grid[0] * grid[1]):
            raise ValueError(f"{len(rows)} rows are no whole number of images with grid {grid}")
        row, index = rows.nonzero(as_tuple=True)
        offset = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
        offset[1:] = torch.bincount(row, minlength=len(rows)).cumsum(0)
        return cls(index, rows[row, index].float(), offset, rows.shape[1], grid)

    def dense(self) -> Tensor:
        """All rows as one tensor (n_rows, features)."""
        row = torch.repeat_interleave(torch.arange(self.n_rows), self.offset.diff())
        out = torch.zeros(self.n_rows, self.n_features)
        out[row, self.index] = self.value
        return out

    def columns(self, features: Sequence[int]) -> Tensor:
        """Activations (n_rows, len(features)) of some features; makes no dense row."""
        index, value = self.index.numpy(), self.value.numpy()
        wanted = np.asarray(features, dtype=np.int64)
        offset = self.offset.numpy()
        out = np.zeros((self.n_rows, len(wanted)), dtype=np.float32)
        # All rows' binary searches at once: indices ascend within a row. A search for each row took
        # 2.5 times as long, nearly all of it calls.
        low = np.repeat(offset[:-1, None], len(wanted), axis=1)
        high = np.repeat(offset[1:, None], len(wanted), axis=1)
        end = high.copy()
        for _ in range(int(np.diff(offset).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            # A search that has ended may stand behind the last entry.
            less = (low < high) & (index[np.minimum(middle, len(index) - 1)] < wanted)
            low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
        row, place = np.nonzero(low < end)
        entry = low[row, place]
        found = index[entry] == wanted[place]
        out[row[found], place[found]] = value[entry[found]]
        return torch.from_numpy(out)

    def squared_norms(self) -> Tensor:
        """The squared L2 norm of each row, (n_rows,) float64; kept, so not to be written to."""
        return self._squared_norms

    @cached_property
    def _squared_norms(self) -> Tensor:
        out = np.zeros(self.n_rows)
        starts = self.offset[:-1].numpy()
        filled = np.diff(self.offset.numpy()) > 0  # `reduceat` knows no empty row
        if filled.any():
            squares = np.square(self.value.numpy(), dtype=np.float64)
            out[filled] = np.add.reduceat(squares, starts[filled])
        return torch.from_numpy(out)

    def image(self, i: int) -> "Codes":
        """The rows of image i alone."""
        if self.n_images == 1 and i == 0:
            return self  # with its digest, where that was made
        n = 1 + self.n_cells
        lo, hi = int(self.offset[i * n]), int(self.offset[(i + 1) * n])
        offset = self.offset[i * n : (i + 1) * n + 1] - lo
        return Codes(self.index[lo:hi], self.value[lo:hi], offset, self.n_features, self.grid)

    def global_only(self) -> "Codes":
        """The first image's code without its cells; shares memory."""
        end = int(self.offset[1])
        return Codes(self.index[:end], self.value[:end], self.offset[:2], self.n_features)

    @classmethod
    def cat(cls, codes: Sequence["Codes"]) -> "Codes":
        """Several images after one another; all share features and grid."""
        first = codes[0]
        if len(codes) == 1:
            return first
        if any((c.n_features, c.grid) != (first.n_features, first.grid) for c in codes):
            raise ValueError("codes of different width or grid cannot be put in one batch")
        offset = [first.offset.new_zeros(1), *(c.offset.diff() for c in codes)]
        return cls(
            torch.cat([c.index for c in codes]),
            torch.cat([c.value for c in codes]),
            torch.cat(offset).cumsum(0),
            first.n_features,
            first.grid,
        )

    def to(self, device: torch.device | str) -> "Codes":
        """The same codes on a device."""
        index, value, offset = (t.to(device) for t in (self.index, self.value, self.offset))
        return Codes(index, value, offset, self.n_features, self.grid)

    def clone(self) -> "Codes":
        """A copy that autograd can work on, also of codes that were made in inference mode."""
        index, value, offset = self.index.clone(), self.value.clone(), self.offset.clone()
        return Codes(index, value, offset, self.n_features, self.grid)

    def density(self) -> float:
        """Share of active features in the global codes (threshold 0), in [0, 1]."""
        counts = self.offset.diff()[:: 1 + self.n_cells].float()
        return float(counts.mean() / self.n_features)

    def sha256(self) -> str:
        """Digest of the codes, equal exactly where every row is bit-identical."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        # Kept: a steered request needs it for its receipt and for the cache of its soft tokens, and
        # of one photograph it takes 2 ms.
        digest = hashlib.sha256(f"{self.n_features} {self.grid}".encode())
        for part in (self.offset, self.index, self.value):
            digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()
