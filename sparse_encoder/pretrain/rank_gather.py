"""What the ranks of one batch tell each other: text trunk outputs and a few vectors, never codes.

Each rank holds its own images against the texts of all ranks. So only the texts' trunk outputs are
gathered, and only their gradients come back; images stay where they are. A code is 32-72 times as
wide as the trunk output that it is made from (Sparse CLIP, arXiv 2601.20075, 1.2).
"""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from sparse_encoder.errors import SparsightError


class Ranks:
    """The processes that share a batch; one process alone is the case of one rank.

    Every method is a collective: all ranks call it, in the same order. Tensors are changed in
    place where the docstring does not speak of a new one.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        """group: default all processes, if torch.distributed is initialised at all."""
        together = dist.is_available() and dist.is_initialized()
        self.group = group
        self.n = dist.get_world_size(group) if together else 1
        self.rank = dist.get_rank(group) if together else 0

    def require_equal(self, n_rows: int, device: torch.device) -> None:
        """Raises SparsightError on every rank unless all of them hold `n_rows` rows."""
        if self.n == 1:
            return
        own = torch.tensor([n_rows], device=device)
        sizes = own.new_empty(self.n)
        dist.all_gather_single(sizes, own, group=self.group)
        if len(set(sizes.tolist())) > 1:
            raise SparsightError(
                f"the ranks hold batches of {sizes.tolist()} pairs; expected the same number on "
                "each: drop the last, incomplete batch (drop_last=True) or pad it",
                param="batch",
            )

    def gather_rows(self, x: Tensor) -> Tensor:
        """A new (n * rows, width) tensor: the rows of rank 0, then those of rank 1, ..."""
        if self.n == 1:
            return x
        everyone = x.new_empty(self.n * len(x), *x.shape[1:])
        dist.all_gather_single(everyone, x.contiguous(), group=self.group)
        return everyone

    def sum_own_rows(self, x: Tensor) -> Tensor:
        """The sum over ranks of (n * rows, width), of which each rank gets its own rows, anew."""
        if self.n == 1:
            return x
        own = x.new_empty(len(x) // self.n, *x.shape[1:])
        dist.reduce_scatter_single(own, x, group=self.group)
        return own

    def sum(self, x: Tensor) -> Tensor:
        """The sum over ranks, entry by entry."""
        if self.n > 1:
            dist.all_reduce(x, dist.ReduceOp.SUM, group=self.group)
        return x

    def any(self, x: Tensor) -> Tensor:
        """Where the bool tensor is true on some rank; a new tensor."""
        if self.n == 1:
            return x
        byte = x.to(torch.uint8)  # MAX over bool is not to be had everywhere
        dist.all_reduce(byte, dist.ReduceOp.MAX, group=self.group)
        return byte.bool()

    def logsumexp(self, x: Tensor) -> Tensor:
        """log of the sum over ranks of exp(x), entry by entry; a new tensor."""
        if self.n == 1:
            return x
        top = x.clone()
        dist.all_reduce(top, dist.ReduceOp.MAX, group=self.group)
        return self.sum((x - top).exp()).log() + top


@dataclass(frozen=True)
class Exchange:
    """Bytes that one rank receives in one step of a loss, forward and backward together.

    Counted for ring algorithms: an all-gather or reduce-scatter brings each rank all but its own
    share, an all-reduce does both.
    """

    texts: int  # the other ranks' trunk outputs
    text_gradients: int  # the reduce-scatter that sums them
    column_sums: int  # log-sum-exp of every text's column; InfoNCE only
    counts: int  # batch sizes, the loss, L0 and the active features of the images

    @property
    def total(self) -> int:
        return self.texts + self.text_gradients + self.column_sums + self.counts


def exchange(
    ranks: int, batch: int, width: int, features: int, value_bytes: int = 4, softmax: bool = True
) -> Exchange:
    """The bytes of one step with `batch` pairs on each rank.

    width: of the text trunk. value_bytes: 4 for fp32, 2 where the codes are computed in bf16 or
    fp16; gradients and sums are fp32 throughout. softmax: True for InfoNCE, False for SigLIP.
    """
    others = (ranks - 1) * batch * width
    columns = 2 * all_reduce_bytes(ranks, 4 * ranks * batch) if softmax else 0  # maximum, then sum
    counts = (ranks - 1) * 8 + all_reduce_bytes(ranks, 3 * 4) + all_reduce_bytes(ranks, features)
    return Exchange(others * value_bytes, others * 4, columns, counts)


def all_reduce_bytes(ranks: int, n_bytes: int) -> int:
    """What a rank receives when `n_bytes` are reduced by a ring (Patarasuk & Yuan 2009)."""
    return math.ceil(2 * (ranks - 1) / ranks * n_bytes)
