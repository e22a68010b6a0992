"""Trust: whether a name holds on images that had no say in choosing it.

The AUC of the feature's global activation between held-out images whose captions or labels contain
the name and all other held-out images, with a 95 % bootstrap interval. Where fewer than MIN_POSITIVE
images contain it the name stays "unverified".
"""

from collections.abc import Mapping, Sequence

import numpy as np

from sparse_encoder.features.auc import auc_interval
from sparse_encoder.features.columns import ImageColumns
from sparse_encoder.features.evidence import FEATURE_BLOCK
from sparse_encoder.features.state import Arrays

MIN_POSITIVE = 5  # held-out images with the name, and as many without
HOLDS = 0.7  # what the interval's lower end must exceed
VERDICTS = ("", "unverified", "doubtful", "verified")


def trust_names(
    columns: ImageColumns,
    places: Mapping[str, Sequence[int]],
    lemmas: Sequence[str],
) -> Arrays:
    """lemmas: of each feature's name, "" without one. places: lemma -> held-out images with it.

    auc, low, high: (features,), NaN where not tested; positives: (features,) int32; verdict: index
    into VERDICTS: no name, too few images, interval not above HOLDS, interval above it.
    """
    n_features = len(lemmas)
    out = {name: np.full(n_features, np.nan, np.float32) for name in ("auc", "low", "high")}
    positives = np.zeros(n_features, np.int32)
    verdict = np.zeros(n_features, np.int8)
    n = columns.n_images
    for start in range(0, n_features, FEATURE_BLOCK):
        stop = min(start + FEATURE_BLOCK, n_features)
        activation = columns.dense(start, stop).numpy()
        for j in range(start, stop):
            if not lemmas[j]:
                continue
            here = places.get(lemmas[j], ())
            positives[j] = len(here)
            if not MIN_POSITIVE <= len(here) <= n - MIN_POSITIVE:
                verdict[j] = 1
                continue
            has = np.zeros(n, bool)
            has[list(here)] = True
            found = auc_interval(activation[:, j - start], has, seed=j)
            out["auc"][j], out["low"][j], out["high"][j] = found.auc, found.low, found.high
            verdict[j] = 3 if found.low > HOLDS else 2
    return {**out, "positives": positives, "verdict": verdict}
