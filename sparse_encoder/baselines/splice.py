"""SpLiCE: a dense image code as a few words, by non-negative sparse regression, without training.

Bhalla et al. 2024, arXiv 2402.10376. Image codes and word codes are unit vectors that are centred
on the mean of their own kind, which closes the gap between the two. Then, of a row x,

    w = argmin over w >= 0 of  1/2 |x - w C|^2 + l1 sum w,    C: (words, width), unit rows

and x' = unit(w C) + mean of images, made unit again, stands in for x.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_encoder.contrastive import unit
from sparse_encoder.errors import SparsightError

BLOCK = 256  # rows at once: 10 MB of weights a copy at 10,000 words


@dataclass(frozen=True)
class Splice:
    """Decomposes dense codes over a word list. Read-only, safe to share."""

    words: Tensor  # (words, width), unit rows, centred
    image_mean: Tensor  # (width,) of unit image codes
    l1: float = 0.2  # more: fewer words; the authors' scale, where 0.15-0.3 leave 5-30 words

    def code(self, x: Tensor) -> Tensor:
        """Weights of the words (batch, words), non-negative, of dense image codes (batch, width).

        For the codes of a set, ask block by block (`BLOCK`).
        """
        return nonnegative_lasso(self.words, unit(unit(x) - self.image_mean), self.l1)

    def decode(self, code: Tensor) -> Tensor:
        """The unit dense codes (batch, width) that the weights stand for."""
        return unit(unit(code @ self.words) + self.image_mean)


def splice(words: Tensor, image_mean: Tensor, l1: float = 0.2) -> Splice:
    """words: dense text codes of the word list (words, width). image_mean: of unit image codes.

    Words are centred on their own mean; a word that lies at the mean says nothing and stays zero.
    """
    if l1 <= 0:
        raise SparsightError(f"l1={l1}: expected above 0, or all words are used", param="l1")
    rows = unit(words)
    return Splice(unit(rows - rows.mean(0)), image_mean, l1)


def nonnegative_lasso(
    words: Tensor, x: Tensor, l1: float, *, tolerance: float = 1e-3, most_steps: int = 2000
) -> Tensor:
    """argmin over w >= 0 of 1/2 |x - w C|^2 + l1 sum w for each row of x, (batch, words).

    words: C (words, width). x: (batch, width). By FISTA (Beck and Teboulle 2009) with restarts
    (O'Donoghue and Candes 2015). It stops where no row breaks the optimality conditions by more
    than `tolerance` (`violation`); raises SparsightError where `most_steps` do not get there.
    No words x words matrix is made.
    """
    # Lipschitz constant of the gradient: the largest eigenvalue of C C^T, which is C^T C's.
    step = 1 / float(torch.linalg.eigvalsh((words.T @ words).double())[-1].clamp_min(1e-12))
    w = x.new_zeros(len(x), len(words))
    ahead, momentum = w, 1.0
    worst = float("inf")
    for n in range(most_steps):
        new = (ahead - step * gradient(words, x, ahead, l1)).clamp_min(0)
        if float(((ahead - new) * (new - w)).sum()) > 0:  # the momentum points uphill
            momentum = 1.0
        later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / later * (new - w)
        w, momentum = new, later
        if n % 10 == 9:
            worst = violation(words, x, w, l1)
            if worst <= tolerance:
                return w
    raise SparsightError(
        f"after {most_steps} steps the decomposition still breaks its optimality conditions by "
        f"{worst:.1e}, above {tolerance:.0e}; raise l1 or give words that are less alike",
        param="l1",
    )


def gradient(words: Tensor, x: Tensor, w: Tensor, l1: float) -> Tensor:
    """Of the objective at w: (w C - x) C^T + l1, (batch, words)."""
    return (w @ words - x) @ words.T + l1


def violation(words: Tensor, x: Tensor, w: Tensor, l1: float) -> float:
    """By how much w breaks the optimality (KKT) conditions at most; 0 at the optimum.

    The gradient is 0 where w > 0 and not negative where w = 0.
    """
    slope = gradient(words, x, w, l1)
    wrong = torch.where(w > 0, slope.abs(), (-slope).clamp_min(0))
    return float(wrong.max()) if wrong.numel() else 0.0
