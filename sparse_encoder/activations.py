"""What makes a code of a pre_code: ReLU (Sparse CLIP's), the two top-k rules, or nothing.

All but the identity give non-negative codes. The top-k rules look at all features of a row, or of
a batch, before the first entry is known; so only ReLU and the identity can be computed in chunks of
features.
"""

import torch
from torch import Tensor, nn

from sparse_encoder.errors import SparsightError

ACTIVATIONS = ("relu", "topk", "batch_topk", "identity")


def check_activation(activation: str, k: int, features: int) -> None:
    """Raises SparsightError unless `activation` is known and `k` fits it.

    k: kept features a row, 1 to `features`, for the top-k rules; they alone read it.
    """
    if activation not in ACTIVATIONS:
        raise SparsightError(
            f"activation {activation!r}: expected relu or identity, or topk or batch_topk with k",
            param="activation",
        )
    if activation in ("topk", "batch_topk") and not 1 <= k <= features:
        raise SparsightError(
            f"k={k} with activation {activation}: expected 1 to {features}, the number of features "
            "that a row may keep",
            param="k",
        )


def relu(pre_code: Tensor) -> Tensor:
    """max(0, pre_code), any shape.

    Source: Sparse CLIP (Qin et al. 2026, arXiv 2601.20075): ReLU alone, with a wide layer before
    it; the sparsity forms during training.
    """
    return pre_code.relu()


def identity(pre_code: Tensor) -> Tensor:
    """The pre_code itself: the dense head that sparse ones are compared with (CLIP's own)."""
    return pre_code


def topk(pre_code: Tensor, k: int) -> Tensor:
    """The `k` largest positive entries of each row (..., features); all others are exactly zero.

    A row with fewer than k positive entries keeps fewer. Ties go to either index. The gradient
    flows through the kept entries alone. Source: Gao et al. 2024, arXiv 2406.04093 (TopK), with a
    ReLU, so that codes are non-negative.
    """
    check_activation("topk", k, pre_code.shape[-1])
    kept, index = pre_code.relu().topk(k, dim=-1)
    return torch.zeros_like(pre_code).scatter(-1, index, kept)


def batch_topk(pre_code: Tensor, k: int) -> Tensor:
    """The `k` x rows largest positive entries of all rows together; all others are exactly zero.

    A rich row may keep more than k and a plain one fewer. Rows are all but the last axis. Source:
    Bussmann, Leask and Nanda 2024, arXiv 2412.06410. What a row keeps depends on its batch:
    `BatchTopK` is the form that inference uses.
    """
    check_activation("batch_topk", k, pre_code.shape[-1])
    flat = pre_code.relu().flatten()
    kept, index = flat.topk(k * (flat.numel() // pre_code.shape[-1]))
    return torch.zeros_like(flat).scatter(0, index, kept).view_as(pre_code)


class BatchTopK(nn.Module):
    """`batch_topk` while training, and a fixed threshold after, so that rows stand alone.

    The threshold is the mean over training batches of the smallest positive entry that was kept
    (arXiv 2412.06410, on inference), followed as an exponential average. Before the first training batch
    it is 0, which is plain ReLU. Each rank follows its own batches; a checkpoint holds rank 0's.
    The buffer follows the module's dtype: keep the module in fp32 and use autocast, since a bf16
    average stops moving.
    """

    threshold: Tensor

    def __init__(self, k: int, momentum: float = 0.99) -> None:
        """k: kept features a row, on average. momentum: share of the old threshold in a step."""
        super().__init__()
        self.k = k
        self.momentum = momentum
        self.register_buffer("threshold", torch.zeros(1))  # (1,): FSDP takes no scalars

    def forward(self, pre_code: Tensor) -> Tensor:
        """Codes of (..., features)."""
        if not self.training:
            return pre_code * (pre_code > self.threshold)
        code = batch_topk(pre_code, self.k)
        self._follow(code.detach())
        return code

    @torch.no_grad()
    def _follow(self, code: Tensor) -> None:
        """Moves the threshold towards this batch's; reads nothing back, so a GPU need not wait."""
        positive = torch.where(code > 0, code, torch.inf)
        least = positive.amin().to(self.threshold.dtype)
        moved = self.threshold.lerp(least, 1 - self.momentum)
        new = torch.where(self.threshold > 0, moved, least)
        self.threshold.copy_(torch.where(least.isfinite(), new, self.threshold))
