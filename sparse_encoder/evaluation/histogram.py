"""Histograms as plain numbers, for a report and its plots."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Histogram:
    """counts[i] values lie in [edges[i], edges[i + 1]), the last bin closed; both empty for none."""

    edges: list[float]
    counts: list[int]


def linear_histogram(values: Tensor, low: float, high: float, n_bins: int = 24) -> Histogram:
    """Of the values that are no NaN; those outside of [low, high] go into the first or last bin."""
    known = values[~values.isnan()].double()
    place = bins(known, low, high, n_bins)
    edges = [low + (high - low) * i / n_bins for i in range(n_bins + 1)]
    return Histogram(edges, torch.bincount(place, minlength=n_bins).tolist())


def log_histogram(values: Tensor, n_bins: int = 24) -> Histogram:
    """Of the positive values, in bins evenly spaced in log10 from the smallest to the largest.

    Zeros have no logarithm and are left out (dead features are counted elsewhere). Values that are
    all equal get a decade around them; without a positive value there are no bins.
    """
    log = values[values > 0].double().log10()
    if not len(log):
        return Histogram([], [])
    low, high = span(log)
    edges = [10 ** (low + (high - low) * i / n_bins) for i in range(n_bins + 1)]
    return Histogram(edges, torch.bincount(bins(log, low, high, n_bins), minlength=n_bins).tolist())


def span(values: Tensor) -> tuple[float, float]:
    """Smallest and largest value, put half a unit apart each way where they are equal."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def bins(values: Tensor, low: float, high: float, n_bins: int) -> Tensor:
    """The bin of each value, int64 in 0..n_bins - 1; `high` itself belongs to the last."""
    return ((values - low) / (high - low) * n_bins).floor().long().clamp(0, n_bins - 1)
