"""The sparse head: a widened last projection and a ReLU (Sparse CLIP, arXiv 2601.20075, 1.2)."""

import torch
from torch import Tensor, nn

from sparse_encoder.errors import SparsightError


class SparseHead(nn.Module):
    """Maps trunk vectors (..., width) to codes (..., features).

    The map before the ReLU is affine, so the pre-code of a mean of vectors is the mean of their
    pre-codes: one weight serves the pooled image and its cells.
    """

    def __init__(
        self, width: int, features: int, bias: float = -1.0, activation: str = "relu"
    ) -> None:
        """bias: initial bias of every feature, in units of the pre-code's initial deviation.

        activation: "relu", or "identity" for the dense head that we compare with.
        """
        super().__init__()
        if activation not in ("relu", "identity"):
            raise SparsightError(f"activation {activation!r}: expected relu or identity")
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(features, width) * width**-0.5)
        self.bias = nn.Parameter(torch.full((features,), float(bias)))

    def pre_code(self, x: Tensor) -> Tensor:
        """Before the ReLU: (..., width) -> (..., features)."""
        return nn.functional.linear(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (..., features), un-normalised; non-negative but for the identity."""
        pre_code = self.pre_code(x)
        return pre_code.relu() if self.activation == "relu" else pre_code

    def fold_input_scale(self, mean: Tensor, deviation: Tensor) -> None:
        """Lets the head take raw inputs after training on ``(x - mean) / deviation``."""
        with torch.no_grad():
            self.weight.div_(deviation)
            self.bias.sub_(self.weight @ mean)
