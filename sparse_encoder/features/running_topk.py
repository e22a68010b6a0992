"""The k largest values of each row, over columns that come block by block."""

import torch
from torch import Tensor

# Entries looked at in one go. All rows at once of 55,296 features and a block of 1,024 words took
# 1,968 MiB at the peak of a naming, parts of so many 1,455.
MOST_ENTRIES = 2**22


class RunningTopK:
    """Best first, ties to the lower column; holds rows x k whatever the number of columns.

    The outcome does not depend on how the columns were cut into blocks. Slots that no value took
    hold minus infinity and column -1.
    """

    def __init__(self, rows: int, k: int) -> None:
        if k < 1:
            raise ValueError(f"k is {k}, expected at least 1")
        self.k = k
        self.value = torch.full((rows, k), -torch.inf)
        self.index = torch.full((rows, k), -1, dtype=torch.int64)

    def add(self, value: Tensor, index: Tensor, rows: slice = slice(None)) -> None:
        """value: (rows, columns), minus infinity where an entry is none; index: (columns,) int64.

        Every column comes once. rows: those that `value` is about.
        """
        start, stop, _ = rows.indices(len(self.value))
        step = max(1, MOST_ENTRIES // max(1, value.shape[1]))
        for low in range(start, stop, step):
            high = min(low + step, stop)
            self._add(value[low - start : high - start], index, slice(low, high))

    def _add(self, value: Tensor, index: Tensor, rows: slice) -> None:
        held, named = self.value[rows], self.index[rows]
        # Of a block at most k can enter, so that the exact order below is of 2 k columns only.
        both = torch.cat([held, value.float()], 1)
        column = torch.cat([named, index.expand(len(value), -1)], 1)
        if both.shape[1] > 4 * self.k:
            both, column = _candidates(both, column, self.k)
        by_column = column.argsort(dim=1, stable=True)
        both, column = both.gather(1, by_column), column.gather(1, by_column)
        order = both.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        self.value[rows] = both.gather(1, order)
        self.index[rows] = torch.where(self.value[rows].isneginf(), -1, column.gather(1, order))


def _candidates(value: Tensor, column: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Enough columns to hold each row's best k under "ties to the lower column"."""
    top = value.topk(k, dim=1)
    # topk breaks ties as it likes. Where the k-th value is tied, the lowest columns that have it
    # are asked for by name: k more candidates, the smallest column numbers among the tied.
    least = top.values[:, -1:]
    tied = (value == least) & ~least.isneginf()  # minus infinity is no entry, so nobody's rival
    if (tied.sum(1) <= (top.values == least).sum(1)).all():
        return top.values, column.gather(1, top.indices)
    low = torch.where(tied, column, torch.iinfo(torch.int64).max)
    low_place = low.topk(min(k, low.shape[1]), dim=1, largest=False).indices
    place = torch.cat([top.indices, low_place], 1).sort(1).values
    again = torch.zeros_like(place, dtype=torch.bool)
    again[:, 1:] = place[:, 1:] == place[:, :-1]
    chosen = value.gather(1, place).masked_fill(again, -torch.inf)
    return chosen, column.gather(1, place)
