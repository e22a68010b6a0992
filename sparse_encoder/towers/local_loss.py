"""FSC-CLIP's local hard-negative loss on a `SparseClip`: what a trainer adds to its own loss.

The vectors compared are projected trunk states, as in the paper (arXiv 2410.05210, 3.2), so the
loss shapes trunks and projections and leaves the wide heads to the contrastive loss. For patch codes
instead, pass ``image_head(states.patches)`` and the like to `local_hard_negative_loss`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_encoder.hard_negatives import local_hard_negative_loss, negative_batch
from sparse_encoder.towers.model import SparseClip
from sparse_encoder.towers.text import TextTrunk, Tokens

N_NEGATIVES = 2  # a caption: one of each rule


def tokenize_negatives(trunk: TextTrunk, captions: Sequence[str], seed: int) -> Tokens:
    """Hard negatives of each caption, (batch, 2, tokens); the mask is all 0 where there is none.

    seed: another for each step and rank, so that negatives vary; equal seeds give equal ones. Runs
    on the CPU, so in loading processes.
    """
    rows = negative_batch(captions, seed)
    # Where a rule found nothing the caption itself is read, and its mask taken away.
    texts = [
        row[i] if i < len(row) else caption
        for caption, row in zip(captions, rows, strict=True)
        for i in range(N_NEGATIVES)
    ]
    ids, mask = trunk.tokenize(texts)
    found = torch.tensor([[i < len(row) for i in range(N_NEGATIVES)] for row in rows])
    mask = mask * found.reshape(-1, 1)
    shape = (len(captions), N_NEGATIVES, -1)
    return Tokens(ids.reshape(shape), mask.reshape(shape))


def local_loss(clip: SparseClip, pixels: Tensor, tokens: Tokens, negatives: Tokens) -> Tensor:
    """The local loss of a batch of pairs, (), fp32; times `hard_negatives.WEIGHT` beside CLIP's.

    negatives: what `tokenize_negatives` gave, on the model's device. Costs one pass of the image
    trunk and three of the text trunk. Under DDP or FSDP call it inside the wrapped forward.
    """
    batch, n, length = negatives.ids.shape
    patches = clip.image_states(pixels).patches
    text = clip.text_states(tokens)
    # A text without a real token would be attended to by none: the ids of an empty place are the
    # caption's, so it is read whole, and its mask counts for the loss alone.
    flat = Tokens(negatives.ids.reshape(batch * n, length), _readable(negatives.mask, length))
    other = clip.text_states(flat).tokens.reshape(batch, n, length, -1)
    return local_hard_negative_loss(
        patches,
        text.tokens,
        clip.text_trunk.word_mask(tokens),
        other,
        clip.text_trunk.word_mask(negatives),
        clip.scale,
    )


def _readable(mask: Tensor, length: int) -> Tensor:
    empty = ~mask.bool().any(-1, keepdim=True)
    return (mask.bool() | empty).long().reshape(-1, length)
