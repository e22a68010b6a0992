"""MonoSemanticity score: alikeness of the images that activate a feature, weighted by how much.

Pach et al., arXiv 2504.02821. With activations scaled to w_nk = (a_nk - min_k) / (max_k - min_k)
and unit embeddings e_n of an independent model,

    MS_k = sum_{n<m} w_nk w_mk (e_n . e_m) / sum_{n<m} w_nk w_mk
         = (|v_k|^2 - sum_n w_nk^2) / ((sum_n w_nk)^2 - sum_n w_nk^2),   v_k = sum_n w_nk e_n

max_k - min_k cancels, so one pass suffices: sums of a e, a, a^2, e and the minimum.
Sparse CLIP itself does not report this score.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.errors import SparsightError
from sparse_encoder.evaluation.clarity import check_pairs


@dataclass(frozen=True)
class MonoSemanticity:
    """Mean over the features that have a score."""

    n_features: int  # that have one
    undefined: int  # dead, active on one image only, or always equal
    mean: float | None  # [-1, 1], higher is better; None where no feature has a score


class MonoSemanticityStats:
    """Running sums over images. Holds features x embedding, whatever the number of images."""

    def __init__(self, n_features: int, width: int) -> None:
        self.n_images = 0
        # float64: the last step takes nearly equal numbers from one another.
        self._weighted = torch.zeros(n_features, width, dtype=torch.float64)  # sum of a e
        self._total = torch.zeros(width, dtype=torch.float64)  # sum of e
        self._sum = torch.zeros(n_features, dtype=torch.float64)  # sum of a
        self._squares = torch.zeros(n_features, dtype=torch.float64)  # sum of a^2
        self._min = torch.full((n_features,), torch.inf)
        self._at_min = torch.zeros(n_features, dtype=torch.int64)  # images with exactly the minimum

    def add(self, code: Tensor, embedding: Tensor) -> None:
        """code: (batch, features), un-normalised. embedding: (batch, width), unit rows."""
        check_pairs(code, embedding)
        if not len(code):
            return
        self._weighted += (code.to(embedding.dtype).T @ embedding).double().cpu()
        self._total += embedding.double().sum(0).cpu()
        a = code.double()
        self._sum += a.sum(0).cpu()
        self._squares += a.square().sum(0).cpu()
        low = code.float().amin(0)
        here = (code == low).sum(0).cpu()
        low = low.cpu()
        kept = torch.where(self._min <= low, self._at_min, 0)
        self._at_min = kept + torch.where(low <= self._min, here, 0)
        self._min = torch.minimum(self._min, low)
        self.n_images += len(code)

    def scores(self) -> Tensor:
        """MS of each feature, (features,) float64; NaN where no pair of images has weight."""
        low, n = self._min.double(), self.n_images
        if not n:
            return torch.full_like(low, torch.nan)
        # w = a - low: its sum with e, its sum, its sum of squares
        weighted = self._weighted - low[:, None] * self._total
        total = self._sum - n * low
        squares = self._squares - 2 * low * self._sum + n * low.square()
        score = (weighted.square().sum(1) - squares) / (total.square() - squares)
        # Counted, not read off the sums: rounding would turn 0 / 0 into some number.
        return torch.where(n - self._at_min >= 2, score, torch.nan)

    def summary(self) -> MonoSemanticity:
        if not self.n_images:
            raise SparsightError(
                "no image was seen, so there is no MonoSemanticity; give a set with images",
                param="data",
            )
        score = self.scores()
        known = score[~score.isnan()]
        mean = float(known.mean()) if len(known) else None
        return MonoSemanticity(len(known), len(score) - len(known), mean)
