"""The loss of a pretraining step, as a module of its own, so that DDP and FSDP see its parameters.

ReLU and dense codes go through the losses that never hold the codes. The top-k rules and the L1 penalty
need whole rows, so for them (they are baselines, of moderate width) the codes are held.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional

from sparse_encoder.contrastive import l1_norm, similarity_scale, unit
from sparse_encoder.pretrain.chunked_loss import (
    CodeCounts,
    ContrastiveResult,
    chunked_infonce,
    chunked_siglip,
)
from sparse_encoder.towers.model import SparseClip


class SparseContrast(nn.Module):
    """Both heads and the logit scale: trunk outputs of one rank to the loss of all ranks' batch."""

    def __init__(self, clip: SparseClip) -> None:
        super().__init__()
        self.config = clip.config
        self.image_head = clip.image_head
        self.text_head = clip.text_head
        self.log_scale = clip.log_scale
        self.logit_bias = clip.logit_bias

    def forward(self, image: Tensor, text: Tensor) -> ContrastiveResult:
        """image: (batch, image width), text: (batch, text width); pair i is image i and text i.

        The mean over ranks of the gradients is that of one process with the whole batch.
        """
        scale = similarity_scale(self.log_scale, self.config.cap).squeeze()
        offset = None if self.logit_bias is None else self.logit_bias.squeeze()
        if self.config.activation not in ("relu", "identity") or self.config.l1:
            return self._held(image, text, scale, offset)
        if offset is None:
            return chunked_infonce(image, text, self.image_head, self.text_head, scale)
        return chunked_siglip(image, text, self.image_head, self.text_head, scale, offset)

    def _held(
        self, image: Tensor, text: Tensor, scale: Tensor, offset: Tensor | None
    ) -> ContrastiveResult:
        """The plain loss: codes of the whole batch on every rank."""
        image_code = self.image_head(_of_all_ranks(image)).float()
        text_code = self.text_head(_of_all_ranks(text)).float()
        logits = scale * unit(image_code) @ unit(text_code).T
        loss = _infonce(logits) if offset is None else _siglip(logits + offset)
        if self.config.l1:
            loss = loss + self.config.l1 * (l1_norm(image_code) + l1_norm(text_code)) / 2
        return ContrastiveResult(loss, _counts(image_code), _counts(text_code))


def _of_all_ranks(x: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()):
        return x
    return torch.cat(all_gather(x))


def _infonce(logits: Tensor) -> Tensor:
    target = torch.arange(len(logits), device=logits.device)
    both = functional.cross_entropy(logits, target), functional.cross_entropy(logits.T, target)
    return (both[0] + both[1]) / 2


def _siglip(logits: Tensor) -> Tensor:
    sign = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -functional.logsigmoid(sign * logits).sum() / len(logits)


@torch.no_grad()
def _counts(code: Tensor) -> CodeCounts:
    active = code != 0
    n = active.sum(1)
    return CodeCounts(n.float().mean(), active.any(0).sum(), (n == 0).sum())
