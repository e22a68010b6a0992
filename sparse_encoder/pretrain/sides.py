"""The two trunks as a step calls them: micro-batches through GradCache, or whole with all states."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparse_encoder.hard_negatives import local_hard_negative_loss
from sparse_encoder.pretrain.batches import PairBatch
from sparse_encoder.pretrain.chunked_loss import ContrastiveResult
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.text import Tokens


class Side(nn.Module):
    """A trunk with its projection: what DDP wraps; FSDP wraps its parts (see sharding.py)."""

    def __init__(self, trunk: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.projection = projection

    def forward(self, inputs: Any, states: bool = False) -> Any:
        """Outputs (rows, width); with `states`, those of each patch or token too."""
        found = self.trunk(inputs)
        if not states:
            return self.projection(found.pooled)
        return tuple(self.projection(state) for state in found)


def loss_with_local_negatives(
    sides: tuple[nn.Module, nn.Module],
    contrast: nn.Module,
    clip: SparseClip,
    batch: PairBatch,
    weight: float,
) -> tuple[Tensor, ContrastiveResult, tuple[Tensor, Tensor]]:
    """(loss (), what was counted, trunk outputs of both towers) of a batch on the device.

    The loss is the contrastive one plus `weight` times `local_loss`, which each rank takes over its
    own pairs. Captions and their negatives go through the text trunk together, so that DDP sees
    one forward pass of each side. The whole batch's states are held, so no micro-batches.
    """
    assert batch.negatives is not None
    n, n_negatives, length = batch.negatives.ids.shape
    image, patches = sides[0](batch.pixels, True)
    text, words = sides[1](_together(batch.tokens, batch.negatives, _padding(clip)), True)
    found: ContrastiveResult = contrast(image, text[:n])
    trunk: Any = clip.text_trunk
    local = local_hard_negative_loss(
        patches,
        words[:n, : batch.tokens.ids.shape[1]],
        trunk.word_mask(batch.tokens),
        words[n:, :length].reshape(n, n_negatives, length, -1),
        trunk.word_mask(batch.negatives),
        clip.scale,
    )
    return found.loss + weight * local, found, (image, text[:n])


def _padding(clip: SparseClip) -> int:
    return int(clip.text_trunk.tokenizer.pad_token_id)


def _together(tokens: Tokens, negatives: Tokens, padding: int) -> Tokens:
    """Captions, then every negative, as one batch (n + n x negatives, tokens)."""
    length = negatives.ids.shape[-1]
    ids, mask = negatives.ids.reshape(-1, length), negatives.mask.reshape(-1, length)
    # In the place of a missing negative stands the caption with an empty mask. Attended to by none
    # it would give no number, so it is read whole; the loss leaves it out.
    mask = mask.masked_fill(~mask.bool().any(-1, keepdim=True), 1)
    wide = max(length, tokens.ids.shape[1])

    def widened(x: Tensor, value: int) -> Tensor:
        return functional.pad(x, (0, wide - x.shape[1]), value=value)

    return Tokens(
        torch.cat([widened(tokens.ids, padding), widened(ids, padding)]),
        torch.cat([widened(tokens.mask, 0), widened(mask, 0)]),
    )
