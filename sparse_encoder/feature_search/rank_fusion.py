"""One ranking of several, by reciprocal ranks.

Source: Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and
individual Rank Learning Methods". Only places count, so scores of different units can be joined.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 60  # the paper's k: how little the first place counts above the tenth

Indices = NDArray[np.int64]


def fuse(rankings: Sequence[Indices]) -> tuple[Indices, NDArray[np.float64]]:
    """Items of all rankings with the highest sum of 1 / (SMOOTHING + place) first, and the sums.

    rankings: distinct items each, best first; place counts from 1. Equal sums: the lower item first.
    """
    items = np.concatenate([*rankings, np.zeros(0, dtype=np.int64)])
    parts = [1 / (SMOOTHING + 1 + np.arange(len(ranking))) for ranking in rankings]
    distinct, where = np.unique(items, return_inverse=True)
    score = np.bincount(where, np.concatenate([*parts, np.zeros(0)]), minlength=len(distinct))
    order = np.lexsort((distinct, -score))
    return distinct[order].astype(np.int64), score[order].astype(np.float64)
