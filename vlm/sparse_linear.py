"""rows @ weight where the rows are sparse: active features only, forward and backward.

Forward sums the weight's rows of the active features (an embedding bag). Backward sums, for each
feature, the gradient's rows of the codes that it is active in, a bag the other way round; torch's own
backward of an embedding bag takes up to two and a half times as long. A weight too large for the cache
is walked in blocks of features, so that a block is read from memory once and not once a row. Above
`DENSE_FROM` the blocks are filled in and multiplied; no matrix rows x features is ever held. Without
gradients it is always one bag. Timings: docs/explanation/the-projector.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

BLOCK = 1024  # features; at hidden 576 a block of the weight is 2.4 MB
BLOCKS_FROM = 16  # blocks, 38 MB; a smaller weight stays in a cache of 32 MB
ENTRIES_FROM = (
    4  # entries of a row in a block, on average; with fewer, the blocks cost more than they save
)
# Density, [0, 1], at which bags and filled blocks take the same time, forward and backward together:
# measured by `python -m bench.projector` on one AVX2 core (AMD EPYC) at 4,096 and 55,296 features.
DENSE_FROM = 0.25
CHUNK = 8192  # entries whose gradients are made at once: 19 MB at hidden 576


def sparse_linear(
    index: Tensor, value: Tensor, offset: Tensor, weight: Tensor, *, dense: bool | None = None
) -> Tensor:
    """(rows, hidden) of rows given as `Codes` has them: row r is index[offset[r]:offset[r + 1]].

    index, value: (nnz,), offset: (rows + 1,), weight: (features, hidden) of value's dtype. Gradients go
    to value and weight, once. dense: which way, instead of by density; both give the same to rounding.
    """
    if dense is None:
        learning = torch.is_grad_enabled() and (weight.requires_grad or value.requires_grad)
        # The crossing was measured on CPUs only. Without gradients the layer is milliseconds beside a
        # language model, and an image keeps its bits whatever else is in the batch.
        if not learning or weight.device.type != "cpu":
            return _bag(index, value, offset, weight)
        dense = len(index) > DENSE_FROM * (len(offset) - 1) * len(weight)
    out: Tensor = _SparseLinear.apply(index, value, offset, weight, dense)  # type: ignore[no-untyped-call]
    return out


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, index: Tensor, value: Tensor, offset: Tensor, weight: Tensor, dense: bool
    ) -> Tensor:
        ctx.save_for_backward(index, value, offset, weight)
        n_rows, n_blocks = len(offset) - 1, -(-len(weight) // BLOCK)
        ctx.dense = dense
        ctx.in_blocks = n_blocks >= BLOCKS_FROM and len(index) >= ENTRIES_FROM * n_rows * n_blocks
        if not dense and not ctx.in_blocks:
            return _bag(index, value, offset, weight)
        out = torch.zeros(n_rows, weight.shape[1], dtype=weight.dtype)
        for block in _blocks(index, value, offset, len(weight)):
            here = weight[block.first : block.first + block.n_features]
            if dense:
                out.addmm_(block.filled(), here)
            else:
                out += _bag(block.index, block.value, block.offset, here)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        index, value, offset, weight = ctx.saved_tensors
        _, wants_value, _, wants_weight, _ = ctx.needs_input_grad
        gradient = gradient.contiguous()
        if not ctx.dense and not ctx.in_blocks:
            whole = _Block(0, len(weight), slice(None), index, value, offset)
            to_value = whole.to_value(weight, gradient) if wants_value else None
            return None, to_value, None, whole.to_weight(gradient) if wants_weight else None, None
        # Features that are active nowhere have no block.
        to_weight = torch.zeros_like(weight) if wants_weight else None
        to_value = torch.empty_like(value) if wants_value else None
        for block in _blocks(index, value, offset, len(weight)):
            here = slice(block.first, block.first + block.n_features)
            if to_weight is not None and ctx.dense:
                torch.mm(block.filled().T, gradient, out=to_weight[here])
            elif to_weight is not None:
                to_weight[here] = block.to_weight(gradient)
            if to_value is not None:
                to_value[block.order] = block.to_value(weight[here], gradient)
        return None, to_value, None, to_weight, None


def _bag(index: Tensor, value: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return functional.embedding_bag(
        index, weight, offset, mode="sum", per_sample_weights=value, include_last_offset=True
    )


@dataclass(frozen=True)
class _Block:
    """The entries of some consecutive features, by row and then by feature."""

    first: int  # feature
    n_features: int
    order: Tensor | slice  # (nnz,) where each entry stands among all
    index: Tensor  # (nnz,) counted from `first`
    value: Tensor  # (nnz,)
    offset: Tensor  # (rows + 1,)

    @cached_property
    def row(self) -> Tensor:
        """The row of each entry, (nnz,)."""
        return torch.repeat_interleave(torch.arange(len(self.offset) - 1), self.offset.diff())

    def filled(self) -> Tensor:
        """The block as a matrix (rows, features)."""
        n_rows = len(self.offset) - 1
        out = torch.zeros(n_rows * self.n_features, dtype=self.value.dtype)
        out.scatter_add_(0, self.row * self.n_features + self.index, self.value)
        return out.view(n_rows, self.n_features)

    def to_weight(self, gradient: Tensor) -> Tensor:
        """The gradient (features, hidden) of its weight: a bag of gradient rows for each feature."""
        order = self.index.int().argsort(stable=True)  # half the bytes sort in less time
        offset = torch.zeros(self.n_features + 1, dtype=torch.int64)
        offset[1:] = torch.bincount(self.index, minlength=self.n_features).cumsum(0)
        # index_select: four times as fast as row[order].
        row, value = self.row.index_select(0, order), self.value.index_select(0, order)
        return _bag(row, value, offset, gradient)

    def to_value(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """The gradient (nnz,) of its values: the weight's row times the gradient's, for each entry."""
        out = torch.empty_like(self.value)
        for start in range(0, len(out), CHUNK):
            here = slice(start, start + CHUNK)
            rows = weight.index_select(0, self.index[here])
            out[here] = (rows * gradient.index_select(0, self.row[here])).sum(1)
        return out


def _blocks(index: Tensor, value: Tensor, offset: Tensor, n_features: int) -> Iterator[_Block]:
    """The blocks of `BLOCK` features that have entries; one at a time, so that it stays in the cache."""
    firsts = torch.arange(0, n_features + BLOCK, BLOCK)  # one more: where the last block ends
    bounds = offset.tolist()
    edge = torch.stack(
        [
            torch.searchsorted(index[low:high], firsts) + low
            for low, high in zip(bounds, bounds[1:], strict=False)
        ]
    ).T.contiguous()  # (blocks + 1, rows): an entry of each row
    for i, first in enumerate(range(0, n_features, BLOCK)):
        n_entries = edge[i + 1] - edge[i]  # (rows,)
        starts = torch.zeros(len(n_entries) + 1, dtype=torch.int64)
        starts[1:] = n_entries.cumsum(0)
        n = int(starts[-1])
        if n == 0:
            continue
        order = torch.repeat_interleave(edge[i] - starts[:-1], n_entries) + torch.arange(n)
        here, values = index.index_select(0, order) - first, value.index_select(0, order)
        yield _Block(first, min(BLOCK, n_features - first), order, here, values, starts)
