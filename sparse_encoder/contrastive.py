"""The contrastive loss on sparse codes, its sparsity penalty, and a classifier as a teacher."""

import math

import torch
from torch import Tensor
from torch.nn import functional

_EPS = 1e-6


def unit(code: Tensor) -> Tensor:
    """Rows of length 1; a row with no active feature stays zero."""
    return functional.normalize(code, dim=-1, eps=_EPS)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, match: Tensor) -> Tensor:
    """Symmetric cross-entropy over cosine similarities, several positives allowed.

    image, text: unit codes (batch, features). match: (batch, batch) >= 0, how well text j fits
    image i; each row and each column is normalised to a distribution. The identity gives CLIP's
    loss (Radford et al. 2021), which Sparse CLIP keeps (arXiv 2601.20075).
    """
    logits = scale * image @ text.T  # (batch, batch), row i is image i
    rows = -(match / match.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    columns = -(match / match.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (rows + columns) / 2


def soft_match(group: Tensor, text_vector: Tensor, weight: float, temperature: float) -> Tensor:
    """1 where two samples share image or label, else up to `weight` for like texts.

    group: (batch,) ids. text_vector: pooled trunk vectors (batch, width). Two photographs of "a
    man on a beach" are no negatives of each other, and a small data set is full of such pairs.
    """
    same = (group[:, None] == group[None]).float()
    likeness = unit(text_vector) @ unit(text_vector).T
    return same + (1 - same) * weight * ((likeness - 1) / temperature).exp()


def teacher_loss(image: Tensor, names: Tensor, scale: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of a zero-shot reading of `names` against a classifier's distribution.

    image: unit codes (batch, features); names: unit text codes (classes, features); teacher:
    (batch, classes), rows sum to 1.
    """
    return -(teacher * (scale * image @ names.T).log_softmax(1)).sum(1).mean()


def excess_spread(image: Tensor, active_share: Tensor, allowed: float) -> Tensor:
    """Mean l1 norm of those unit codes (batch, features) that are denser than `allowed`.

    Between 1 (one active feature) and sqrt(features), divided by the latter. Codes that are sparse
    enough are left alone: pressing on all alike costs the rich photographs nothing and the plain
    ones their last features.
    """
    dense = (active_share > allowed).float()
    return (image.abs().sum(1) * dense).mean() / math.sqrt(image.shape[1])


def l1_norm(code: Tensor) -> Tensor:
    """Mean l1 norm of codes (batch, features); of unit codes 1 (one feature) to sqrt(features)."""
    return code.abs().sum(1).mean()


def similarity_scale(log_scale: Tensor, cap: float) -> Tensor:
    """exp of the learned scale, at most `cap`; a lower cap gives sparser codes (arXiv 2601.20075, Fig. 2c)."""
    return torch.clamp(log_scale.exp(), max=cap)
