"""The sparse head: a widened last projection and a ReLU (Sparse CLIP, arXiv 2601.20075, 1.2)."""

import torch
from torch import Tensor, nn

from sparse_encoder.activations import BatchTopK, check_activation, identity, relu, topk
from sparse_encoder.errors import SparsightError


class SparseHead(nn.Module):
    """Maps trunk vectors (..., width) to codes (..., features).

    The map before the ReLU is affine, so the pre-code of a mean of vectors is the mean of their
    pre-codes: one weight serves the pooled image and its cells. `weight` (features, width) and
    `bias` (features,) are open to losses that compute codes in chunks and never hold them.
    """

    def __init__(
        self,
        width: int,
        features: int,
        bias: float = -1.0,
        activation: str = "relu",
        k: int = 0,
    ) -> None:
        """bias: initial bias of every feature, in units of the pre-code's initial deviation.

        activation: "relu"; "topk" or "batch_topk", which keep `k` features a row; or "identity"
        for the dense head that we compare with.
        """
        super().__init__()
        check_activation(activation, k, features)
        self.activation = activation
        self.k = k
        self.weight = nn.Parameter(torch.randn(features, width) * width**-0.5)
        self.bias = nn.Parameter(torch.full((features,), float(bias)))
        # Only this rule has a state; the others leave weight and bias alone in a state dict.
        self.batch_topk = BatchTopK(k) if activation == "batch_topk" else None

    def pre_code(self, x: Tensor) -> Tensor:
        """Before the activation: (..., width) -> (..., features)."""
        return nn.functional.linear(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (..., features), un-normalised; non-negative but for the identity."""
        pre_code = self.pre_code(x)
        if self.activation == "relu":
            return relu(pre_code)
        if self.activation == "identity":
            return identity(pre_code)
        if self.activation == "topk":
            return topk(pre_code, self.k)
        if self.batch_topk is None:  # the attribute was set after the head was made
            raise SparsightError(
                f"activation {self.activation!r} was given to a head that was made without it; "
                "make the head with that activation",
                param="activation",
            )
        code: Tensor = self.batch_topk(pre_code)
        return code

    def fold_input_scale(self, mean: Tensor, deviation: Tensor) -> None:
        """Lets the head take raw inputs after training on ``(x - mean) / deviation``."""
        with torch.no_grad():
            self.weight.div_(deviation)
            self.bias.sub_(self.weight @ mean)
