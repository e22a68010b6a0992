"""Whether a feature speaks of images, of texts or of both (Sparse CLIP's Figure 3b).

Modality score: mu_k = mean_img(a_k) / (mean_img(a_k) + mean_txt(a_k)), the share of a feature's
activation that comes from images. 1 = images only, 0 = texts only. After Papadimitriou et al.,
arXiv 2504.11695, and "image activation ratio" in arXiv 2601.20075.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.evaluation.histogram import Histogram, bins, linear_histogram, span

# A feature counts as multimodal between these scores: our cut, no paper's.
MULTIMODAL = (0.1, 0.9)
N_MODALITY_BINS = 20
N_DENSITY_BINS = 20


@dataclass(frozen=True)
class Modality:
    """Figures over the features that are active in at least one modality."""

    n_features: int  # active in images or in texts
    multimodal_share: float | None  # with a score in [0.1, 0.9]; None where none is active
    multimodal_share_weighted: float | None  # the same, features weighted by mean activation
    image_only: int  # score exactly 1
    text_only: int  # score exactly 0
    scores: Histogram  # of the scores, 20 bins from 0 to 1
    density_edges: list[float]  # of the rows below, mean activation, log-spaced
    by_density: list[list[int]]  # features, (density bins, score bins): Figure 3b


def modality_scores(image_mean: Tensor, text_mean: Tensor) -> Tensor:
    """mu of each feature, (features,) in [0, 1]; NaN where it is active in neither modality.

    image_mean, text_mean: mean activation over all images and over all texts, (features,). Means,
    not sums: the sets need not be equally large.
    """
    both = image_mean + text_mean
    return torch.where(both > 0, image_mean / both, torch.nan)


def mean_of_both(image_mean: Tensor, text_mean: Tensor) -> Tensor:
    """Magnitude-weighted density over equally many images and texts, (features,), raw units."""
    return (image_mean + text_mean) / 2


def modality_summary(image_mean: Tensor, text_mean: Tensor) -> Modality:
    """All of it, from the two (features,) means; they need not be normalised."""
    score, weight = modality_scores(image_mean, text_mean), mean_of_both(image_mean, text_mean)
    live = ~score.isnan()
    score, weight = score[live].double(), weight[live].double()
    both = (score >= MULTIMODAL[0]) & (score <= MULTIMODAL[1])
    n = len(score)
    edges, table = _by_density(score, weight)
    return Modality(
        n_features=n,
        multimodal_share=float(both.double().mean()) if n else None,
        multimodal_share_weighted=float(weight[both].sum() / weight.sum()) if n else None,
        image_only=int((score == 1).sum()),
        text_only=int((score == 0).sum()),
        scores=linear_histogram(score, 0.0, 1.0, N_MODALITY_BINS),
        density_edges=edges,
        by_density=table,
    )


def _by_density(score: Tensor, weight: Tensor) -> tuple[list[float], list[list[int]]]:
    """Edges of the density bins and the counts, least dense first; both empty without a feature."""
    if not len(score):
        return [], []
    log = weight.log10()
    low, high = span(log)
    place = bins(log, low, high, N_DENSITY_BINS) * N_MODALITY_BINS + bins(
        score, 0.0, 1.0, N_MODALITY_BINS
    )
    counts = torch.bincount(place, minlength=N_DENSITY_BINS * N_MODALITY_BINS)
    edges = [10 ** (low + (high - low) * i / N_DENSITY_BINS) for i in range(N_DENSITY_BINS + 1)]
    return edges, counts.view(N_DENSITY_BINS, N_MODALITY_BINS).tolist()
