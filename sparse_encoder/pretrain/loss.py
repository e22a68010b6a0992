"""The loss of a pretraining step, as a module of its own, so that DDP and FSDP see its parameters.

ReLU and dense codes go through the losses that never hold the codes. The top-k rules need whole rows,
so for them (they are baselines, of moderate width) the codes are held.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional

from sparse_encoder.contrastive import l1_norm, similarity_scale, unit
from sparse_encoder.pretrain.chunked_l1 import chunked_l1_norm
from sparse_encoder.pretrain.chunked_loss import (
    CodeCounts,
    ContrastiveResult,
    chunked_infonce,
    chunked_siglip,
)
from sparse_encoder.pretrain.rank_gather import Ranks
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
        if self.config.activation not in ("relu", "identity"):
            return self._held(image, text, scale, offset)
        heads = self.image_head, self.text_head
        if offset is None:
            found = chunked_infonce(image, text, *heads, scale)
        else:
            found = chunked_siglip(image, text, *heads, scale, offset)
        if not self.config.l1:
            return found
        norms = (chunked_l1_norm(x, head) for x, head in zip((image, text), heads, strict=True))
        penalty = self.config.l1 * _mean_of_ranks(sum(norms, scale.new_zeros(())) / 2)
        return found._replace(loss=found.loss + penalty)

    def _held(
        self, image: Tensor, text: Tensor, scale: Tensor, offset: Tensor | None
    ) -> ContrastiveResult:
        """The plain loss: codes of the whole batch on every rank."""
        image_code = self.image_head(_of_all_ranks(image)).float()
        text_code = self.text_head(_of_all_ranks(text)).float()
        logits = scale * unit(image_code) @ unit(text_code).T
        loss = _infonce(logits) if offset is None else _siglip(logits + offset)
        if self.config.l1:
            norms = l1_norm(unit(image_code)) + l1_norm(unit(text_code))
            loss = loss + self.config.l1 * norms / 2
        return ContrastiveResult(loss, _counts(image_code), _counts(text_code))


def _of_all_ranks(x: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()):
        return x
    return torch.cat(all_gather(x))


def _mean_of_ranks(own: Tensor) -> Tensor:
    """The value is the mean over ranks; the gradient stays each rank's own, as DDP takes its mean."""
    ranks = Ranks()
    return own + ranks.sum(own.detach().clone()) / ranks.n - own.detach()


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
