"""Which features a word of the caption hangs on, by gradient times activation.

The log-probability of the word is differentiated through language model and projector with respect to
every activation of the code; an activation times its derivative is, to first order, what the
log-probability would lose if the activation went to 0. A feature's attribution is the sum over the
global code and the cells. The method is exact for a linear model and a guess for this one, so the
strongest are tried out (ablation_trial.py). Source: input x gradient, Shrikumar et al. 2016,
arXiv 1605.01713.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse_encoder.codes import Codes


@dataclass(frozen=True, eq=False)
class Attribution:
    """Per feature, in nats; above 0 where the feature makes the word likelier. All (features,)."""

    from_global: Tensor  # through the global code
    from_cells: Tensor  # through all cells together

    @property
    def total(self) -> Tensor:
        """The sum of both."""
        return self.from_global + self.from_cells


def attribute(codes: Codes, log_prob: Callable[[Codes], Tensor]) -> Attribution:
    """Gradient times activation of `log_prob`, one number, at the codes of one photograph."""
    with torch.enable_grad():
        value = codes.value.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(log_prob(replace(codes, value=value)).sum(), value)
    product = (value.detach() * gradient).double()  # (nnz,)
    n_global = int(codes.offset[1])
    zeros = torch.zeros(codes.n_features, dtype=torch.float64)
    return Attribution(
        from_global=zeros.index_add(0, codes.index[:n_global], product[:n_global]),
        from_cells=zeros.index_add(0, codes.index[n_global:], product[n_global:]),
    )
