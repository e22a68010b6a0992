"""The l1 penalty on unit codes, without holding the codes: a sum over chunks of features.

    L = (1/B) sum_i |z_i|_1 / |z_i|_2      z_i = relu(W x_i + b), or W x_i + b

Both norms are sums over features, so a chunk of codes lives only while they are taken, and torch's
checkpointing computes it again in the backward pass. Of unit codes, since the contrastive losses do
not see a code's length: a penalty on raw codes would shrink the weights and leave the density alone.
"""

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sparse_encoder.head import SparseHead

_EPS = 1e-6  # as contrastive.unit
_CHUNK = 1024  # features


def chunked_l1_norm(x: Tensor, head: SparseHead, chunk: int = _CHUNK) -> Tensor:
    """Mean l1 norm of the unit codes of trunk outputs (batch, width), 1 to sqrt(features); 0-d.

    A code with no active feature counts 0. The head's activation has to be relu or identity. The
    gradients equal those of `l1_norm(unit(head(x)))`.
    """
    rule = functional.relu if head.activation == "relu" else torch.Tensor.abs

    def norms(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        code = rule(functional.linear(x, weight, bias)).float()  # (batch, chunk)
        return code.sum(1), code.square().sum(1)

    l1 = square = x.new_zeros(len(x), dtype=torch.float32)
    for weight, bias in zip(head.weight.split(chunk), head.bias.split(chunk), strict=True):
        part_l1, part_square = checkpoint(norms, x, weight, bias, use_reentrant=False)
        l1, square = l1 + part_l1, square + part_square
    # The square root has no slope at 0, where a row has no active feature.
    return (l1 / square.clamp_min(_EPS**2).sqrt()).mean()
