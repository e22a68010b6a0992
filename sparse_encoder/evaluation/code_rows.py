"""Codes made when they are asked for, from kept trunk vectors, so that no set's codes are held.

Trunk vectors are narrow (inputs x width); codes are wide (inputs x features, 55,296 at the paper's
largest). A head is one product, so making a block of codes again costs less than keeping all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.contrastive import unit

BATCH = 256  # rows a batch; 57 MB of codes at 55,296 features


@dataclass(frozen=True)
class CodeRows:
    """The codes of a set by row. `rows[index]` are **unit** codes, as `recall` wants them."""

    vectors: Tensor  # trunk outputs (inputs, width)
    head: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Unit codes (len(index), features)."""
        return unit(self.codes(index))

    @torch.no_grad()
    def codes(self, index: Tensor) -> Tensor:
        """Codes as the head gives them, un-normalised (len(index), features)."""
        return self.head(self.vectors[index].float())

    def batches(self, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Every row once, in order: (index, un-normalised codes) batch by batch."""
        for index in torch.arange(len(self)).split(size):
            yield index, self.codes(index)
