"""Local hard negatives (FSC-CLIP): a caption must fit its photograph's patches better than the same
caption with its words out of place.

Source: Oh et al. 2024, arXiv 2410.05210, sections 3.2 and 3.3, and their code. What differs here:

- Vectors are whatever the caller gives: projected trunk states (as there), or codes.
- An image with fewer negatives than others has its empty places masked; there a place that is empty
  enters the softmax with logit 0.
- Captions are changed by two rules that need no parser, `shuffle_pairs` (theirs) and `swap_words`
  (NegCLIP's swap, but of any two content words, not of two of one part of speech). Their third
  rule, replacing a word through WordNet, is left out. The global hard-negative loss is the same
  `hard_negative_loss` on scaled cosines of pooled vectors.
"""

import random as rand
import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from sparse_encoder.errors import SparsightError

GAMMA = 2.0  # of the focal weight (section 4, training setup)
SMOOTHING = 0.02  # beta of the label smoothing (same)
WEIGHT = 0.2  # lambda_l, of this loss beside CLIP's, for ViT-B/32 (same)
_EPS = 1e-6
_FEW = {"a", "an", "the", "of", "in", "on", "at", "to", "and", "or", "is", "are", "with", "by"}
_TRIES = 10  # shuffles before a caption is given up, as in their code


def text_aligned_patches(patches: Tensor, tokens: Tensor) -> Tensor:
    """For each token the mean of the patches, weighted by min-max normalised similarity.

    patches: (batch, patches, width). tokens: (batch, tokens, width). Returns (batch, tokens,
    width). Eq. 6 and 7; no gradient flows through the weights, as in their code.
    """
    similarity = (tokens @ patches.transpose(1, 2)).detach()  # (batch, tokens, patches)
    least, most = similarity.aminmax(dim=-1, keepdim=True)
    # Equal similarities would give 0 / 0; so they weigh alike.
    weight = (similarity - least + _EPS) / (most - least + _EPS)
    return weight / weight.sum(-1, keepdim=True) @ patches


def local_similarity(patches: Tensor, tokens: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """log S_l of eq. 8, (batch,): logsumexp over real tokens of scale x cos(token, its patches).

    mask: (batch, tokens), true for real tokens; each row needs one. scale: 1 / temperature, ().
    Computed in fp32.
    """
    aligned = text_aligned_patches(patches.float(), tokens.float())
    cosine = functional.cosine_similarity(aligned, tokens.float(), dim=-1, eps=_EPS)
    return (scale * cosine).masked_fill(~mask.bool(), -torch.inf).logsumexp(-1)


def hard_negative_loss(
    logits: Tensor, real: Tensor, gamma: float = GAMMA, smoothing: float = SMOOTHING
) -> Tensor:
    """Focal cross-entropy with smoothed labels, averaged over images with a negative; eq. 9 and 10.

    logits: (batch, 1 + negatives), the true caption first. real: (batch, negatives), true where
    there is a negative. Range 0 to infinity, lower is better; 0 where no image has a negative.
    """
    real = real.bool()
    has_any = real.any(1)
    place = torch.cat([torch.ones_like(real[:, :1]), real], 1)  # (batch, 1 + negatives)
    log_p = logits.float().masked_fill(~place, -torch.inf).log_softmax(-1)
    log_p = log_p.masked_fill(~place, 0.0)  # such a place has label 0; 0 x infinity is no number
    label = smoothing * place / place.sum(1, keepdim=True)
    label = label + (1 - smoothing) * functional.one_hot(
        torch.zeros(len(logits), dtype=torch.long, device=logits.device), logits.shape[1]
    )
    focal = (1 - log_p.exp()).clamp_min(0) ** gamma
    loss = -(label * focal * log_p).sum(1)  # (batch,)
    return (loss * has_any).sum() / has_any.sum().clamp_min(1)


def local_hard_negative_loss(
    patches: Tensor,
    tokens: Tensor,
    mask: Tensor,
    negative_tokens: Tensor,
    negative_mask: Tensor,
    scale: Tensor,
    gamma: float = GAMMA,
    smoothing: float = SMOOTHING,
) -> Tensor:
    """FSC-CLIP's local loss (eq. 5 with 9 and 10); add it to the contrastive loss times `WEIGHT`.

    patches: (batch, patches, width). tokens: (batch, tokens, width) of the true captions, mask:
    (batch, tokens). negative_tokens: (batch, negatives, tokens, width), negative_mask: (batch,
    negatives, tokens), all false where an image has fewer negatives. Each rank takes its own
    images: nothing is gathered, since a caption's negatives are its own. scale: ().
    """
    if negative_tokens.shape[:2] != negative_mask.shape[:2] or len(negative_mask) != len(patches):
        raise SparsightError(
            f"negatives have shape {tuple(negative_tokens.shape)}, their mask "
            f"{tuple(negative_mask.shape)}, and there are {len(patches)} images; expected (batch, "
            "negatives, tokens, width) and (batch, negatives, tokens)",
            param="negative_tokens",
        )
    n_negatives = negative_mask.shape[1]
    real = negative_mask.bool().any(-1)  # (batch, negatives)
    # An empty place would have no token to sum over; its first token stands in and is masked later.
    stand_in = functional.pad(~real.unsqueeze(-1), (0, negative_mask.shape[2] - 1))
    usable = negative_mask.bool() | stand_in
    scores = [local_similarity(patches, tokens, mask, scale)]
    for i in range(n_negatives):  # one at a time: (batch, tokens, patches) is the largest tensor
        scores.append(local_similarity(patches, negative_tokens[:, i], usable[:, i], scale))
    return hard_negative_loss(torch.stack(scores, 1), real, gamma, smoothing)


def negative_captions(caption: str, random: rand.Random) -> list[str]:
    """Up to two captions of the same words that say something else; [] for a very short one."""
    changed = (rule(caption, random) for rule in (swap_words, shuffle_pairs))
    return [text for text in changed if text is not None]


def swap_words(caption: str, random: rand.Random) -> str | None:
    """`caption` with two of its content words swapped; None where it has no two that differ."""
    parts = re.split(r"(\w+)", caption)  # words at odd places
    places = [i for i in range(1, len(parts), 2) if parts[i].lower() not in _FEW]
    pairs = [
        (i, j) for i in places for j in places if i < j and parts[i].lower() != parts[j].lower()
    ]
    if not pairs:
        return None
    i, j = random.choice(pairs)
    parts[i], parts[j] = parts[j], parts[i]
    return "".join(parts)


def shuffle_pairs(caption: str, random: rand.Random) -> str | None:
    """`caption` with its consecutive pairs of words in another order; None where there is none.

    Punctuation at the end stays there, and words keep theirs.
    """
    ending = re.search(r"[\s.!?]*$", caption)
    body = caption[: ending.start()] if ending else caption
    words = body.split()
    pairs = [words[i : i + 2] for i in range(0, len(words), 2)]
    for _ in range(_TRIES if len(pairs) > 1 else 0):
        order = random.sample(pairs, len(pairs))
        changed = [word for pair in order for word in pair]
        if changed != words:
            return " ".join(changed) + (ending.group() if ending else "")
    return None


def negative_batch(captions: Sequence[str], seed: int) -> list[list[str]]:
    """`negative_captions` of each caption; equal for equal seeds, another for another step's."""
    return [negative_captions(c, rand.Random(f"{seed} {i}")) for i, c in enumerate(captions)]
