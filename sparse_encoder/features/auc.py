"""AUC: how often a feature is stronger on an image that has the word than on one that has not.

Equal activations count half, as in Mann and Whitney's U. 1 is best, 0.5 is chance.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

N_DRAWS = 400
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An AUC with its bootstrap interval, all in [0, 1]."""

    auc: float
    low: float
    high: float


def mid_ranks(activation: Tensor) -> Tensor:
    """Rank of each entry in its column, from 1; equal entries share their mean rank.

    activation: (images, columns). Returns the same shape, float32.
    """
    ordered, order = activation.T.contiguous().sort(1)  # (columns, images)
    n = ordered.shape[1]
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place = torch.arange(n).expand_as(ordered)
    first = torch.where(new, place, 0).cummax(1).values
    ends = torch.ones_like(new)
    ends[:, :-1] = new[:, 1:]
    last = torch.where(ends, place, n).flip(1).cummin(1).values.flip(1)
    ranks = torch.empty_like(ordered).scatter_(1, order, ((first + last) / 2 + 1).float())
    return ranks.T


def auc_of_ranks(ranks: Tensor, positive: Tensor) -> Tensor:
    """AUC of every (word, feature) pair, (words, features); NaN without positives or without others.

    ranks: (images, features) of `mid_ranks`; positive: (words, images), 1 where the image has it.
    """
    n, n_positive = len(ranks), positive.sum(1, keepdim=True).double()
    above = (positive @ ranks).double() - n_positive * (n_positive + 1) / 2
    return torch.where(
        (n_positive > 0) & (n_positive < n), above / (n_positive * (n - n_positive)), torch.nan
    ).float()


def lower_bound(auc: Tensor, n_positive: Tensor, z: float) -> Tensor:
    """AUC less z standard errors (Hanley and McNeil 1982, negatives taken as many), any shape."""
    positive = n_positive.clamp(min=1)
    spread = auc * (1 - auc) + (positive - 1) * (auc / (2 - auc) - auc.square())
    # A perfect AUC on a few images has spread 0 by the formula, and is not known that well.
    return auc - z * (spread.clamp(min=1e-4) / positive).sqrt()


def auc_interval(
    activation: NDArray[np.float32],
    positive: NDArray[np.bool_],
    seed: int,
    n_draws: int = N_DRAWS,
) -> Interval:
    """AUC of one feature for one word, with a 95 % percentile bootstrap interval.

    activation, positive: (images,), some positive and some not. The images with the word are drawn
    anew; the others, many times as many, are held fixed, since their share of the spread is small.
    """
    others = np.sort(activation[~positive])
    ours = activation[positive]
    if not len(ours) or not len(others):
        raise ValueError("an AUC needs images with the word and images without it")
    below = np.searchsorted(others, ours, "left")
    not_above = np.searchsorted(others, ours, "right")
    wins = (below + not_above) / (2 * len(others))  # of each image with the word, [0, 1]
    draws = np.random.default_rng(seed).integers(len(wins), size=(n_draws, len(wins)))
    means = wins[draws].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(wins.mean()), float(low), float(high))
