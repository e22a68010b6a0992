"""The distribution of a feature's activations, as far as the percentiles of an atlas tell it.

Between two percentiles the activations are taken as spread evenly, so a bar's area is exact where
its edges are percentiles, and a guess in between.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_encoder.feature_search.card import FeatureCard

_PERCENTILE = re.compile(r"p(\d{1,2})")


def quantiles(card: FeatureCard) -> list[tuple[float, float]]:
    """(share, activation) pairs, ascending in both, from (0, 0) to (1, max); [] where dead.

    Every percentile that the atlas has is in, also those among its further columns.
    """
    if card.dead:
        return []
    known: dict[float, float] = {0.5: card.p50, 0.9: card.p90, 0.99: card.p99}
    known |= _further(card.more)
    points, floor = [(0.0, 0.0)], 0.0
    for share in sorted(known):
        floor = max(floor, known[share])  # percentiles of a sample may cross by rounding
        points.append((share, floor))
    return [*points, (1.0, max(floor, card.max))]


def histogram(
    points: list[tuple[float, float]], n_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles of `n_bins` equal bins from 0 to the maximum, and the share of activations in each."""
    if not points or points[-1][1] <= 0:
        return np.zeros(0), np.zeros(0)
    edges = np.linspace(0, points[-1][1], n_bins + 1)
    share, value = np.asarray(points).T
    below = np.interp(edges, value, share)
    below[-1] = 1.0
    return (edges[:-1] + edges[1:]) / 2, np.diff(below)


def _further(more: Mapping[str, Any]) -> dict[float, float]:
    found = {}
    for key, value in more.items():
        if (match := _PERCENTILE.fullmatch(key)) and isinstance(value, int | float):
            found[int(match[1]) / 100] = float(value)
    return {share: value for share, value in found.items() if share > 0}
