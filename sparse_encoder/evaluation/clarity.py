"""Clarity: how alike the images are that activate a feature, to an independent embedding.

Dreyer et al., arXiv 2501.05398 (SemanticLens), as Sparse CLIP uses it (arXiv 2601.20075, Table 3a:
all images with an activation above 0.001, features with at least 2 of them). It is the mean cosine
over all pairs of those images, in closed form: with m_k the sum of their n_k unit embeddings,

    clarity_k = (|m_k|^2 - n_k) / (n_k (n_k - 1))

so one pass over the images is enough and no pair is looked at.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.errors import SparsightError

THRESHOLD = 0.001
MIN_IMAGES = 2


@dataclass(frozen=True)
class Clarity:
    """Means over the features that enough images activate; None where there is no such feature."""

    threshold: float
    min_images: int
    n_features: int  # that enter the mean
    mean: float | None  # [-1 / (n - 1), 1], higher is clearer
    baseline: float | None  # the same over all images: what a feature active everywhere would have
    lift: float | None  # (mean - baseline) / (1 - baseline), so that sets can be compared


class ClarityStats:
    """Running sums over images. Holds features x embedding, whatever the number of images."""

    def __init__(self, n_features: int, width: int, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self.n_images = 0
        # float64: |m|^2 - n takes nearly equal numbers from one another where features are rare.
        self._sum = torch.zeros(n_features, width, dtype=torch.float64)
        self._total = torch.zeros(width, dtype=torch.float64)
        self.count = torch.zeros(n_features, dtype=torch.int64)

    def add(self, code: Tensor, embedding: Tensor) -> None:
        """code: (batch, features). embedding: (batch, width) of the same images, unit rows.

        Raises ValueError where the two are not of the same images or a row is not of length 1.
        """
        check_pairs(code, embedding)
        active = code > self.threshold
        self._sum += (active.to(embedding.dtype).T @ embedding).double().cpu()
        self._total += embedding.double().sum(0).cpu()
        self.count += active.sum(0).cpu()
        self.n_images += len(code)

    def scores(self, min_images: int = MIN_IMAGES) -> Tensor:
        """Clarity of each feature, (features,) float64; NaN where fewer images activate it."""
        if min_images < 2:
            raise ValueError(f"min_images={min_images}: a pair takes two images")
        score = _mean_cosine(self._sum, self.count.double())
        return torch.where(self.count >= min_images, score, torch.nan)

    def baseline(self) -> float | None:
        """Mean cosine over all pairs of images; None below two images."""
        if self.n_images < 2:
            return None
        return float(_mean_cosine(self._total[None], torch.tensor([float(self.n_images)]))[0])

    def summary(self, min_images: int = MIN_IMAGES) -> Clarity:
        if not self.n_images:
            raise SparsightError(
                "no image was seen, so there is no Clarity; give a set with images", param="data"
            )
        score = self.scores(min_images)
        known, base = score[~score.isnan()], self.baseline()
        mean = float(known.mean()) if len(known) else None
        # Images that are all alike leave no room for a lift.
        room = None if base is None or 1 - base < 1e-9 else 1 - base
        lift = (mean - base) / room if mean is not None and base is not None and room else None
        return Clarity(self.threshold, min_images, len(known), mean, base, lift)


def check_pairs(code: Tensor, embedding: Tensor) -> None:
    """Raises ValueError unless there is one embedding of length 1 for each code."""
    if len(code) != len(embedding):
        raise ValueError(f"{len(code)} codes but {len(embedding)} embeddings; expected the same")
    length = embedding.norm(dim=1)
    if len(length) and not bool(((length - 1).abs() < 1e-3).all()):
        worst = float(length[(length - 1).abs().argmax()])
        raise ValueError(f"an embedding has length {worst:g}; normalise the rows first")


def _mean_cosine(total: Tensor, n: Tensor) -> Tensor:
    """Of n unit vectors with sum `total`; total: (sets, width), n: (sets,)."""
    return (total.square().sum(1) - n) / (n * (n - 1))
