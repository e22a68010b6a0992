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

    With a hidden layer none of that is true: it exists for the dense control of equal size only.
    """

    def __init__(
        self,
        width: int,
        features: int,
        bias: float = -1.0,
        activation: str = "relu",
        k: int = 0,
        hidden: int = 0,
    ) -> None:
        """bias: initial bias of every feature, in units of the pre-code's initial deviation.

        activation: "relu"; "topk" or "batch_topk", which keep `k` features a row; or "identity"
        for the dense head that we compare with. hidden: width of a GELU layer before the last
        projection, 0 for none.
        """
        super().__init__()
        check_activation(activation, k, features)
        self.activation = activation
        self.k = k
        self.hidden = nn.Linear(width, hidden) if hidden else None
        inner = hidden or width
        self.weight = nn.Parameter(torch.randn(features, inner) * inner**-0.5)
        self.bias = nn.Parameter(torch.full((features,), float(bias)))
        # Only this rule has a state; the others leave weight and bias alone in a state dict.
        self.batch_topk = BatchTopK(k) if activation == "batch_topk" else None

    def pre_code(self, x: Tensor) -> Tensor:
        """Before the activation: (..., width) -> (..., features)."""
        if self.hidden is not None:
            x = nn.functional.gelu(self.hidden(x))
        return nn.functional.linear(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (..., features), un-normalised; non-negative but for the identity."""
        return self.activate(self.pre_code(x))

    def activate(self, pre_code: Tensor) -> Tensor:
        """The code of a pre_code, same shape."""
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
        first = self if self.hidden is None else self.hidden
        with torch.no_grad():
            first.weight.div_(deviation)
            first.bias.sub_(first.weight @ mean)
