"""Baseline: difference of means on dense vectors, x' = x + alpha (mean of b - mean of a).

An insertion starts at the mean of all training photographs, a suppression ends there. Marks and
Tegmark 2023 (arXiv 2310.06824); AxBench (arXiv 2501.17148) found it ahead of SAE features in LLMs.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vlm.answer_batches import Question, Sample
from vlm.steering_evaluation.moved_vectors import MovedBy, TrunkCells
from vlm.steering_evaluation.training_photographs import TrainingPhotographs
from vlm.steering_evaluation.wishes import Strength, Way, Wish

ALPHAS = (0.5, 1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class MeanDifference:
    """Ways to steer by means; a wish can be tried where `can` says so."""

    cells: TrunkCells
    training: TrainingPhotographs

    def can(self, wish: Wish) -> bool:
        """Whether there are training photographs enough of the wish's concepts."""
        return all(c in self.training.showing for c in (wish.source, wish.target) if c is not None)

    def way(self, strength_of: Callable[[str], Strength]) -> Way:
        """A strength's dose is alpha."""

        def way(wish: Wish, sample: Sample) -> Question:
            alpha = strength_of(wish.concept).dose or 0.0
            move = alpha * (self._mean(wish.target) - self._mean(wish.source))
            return Question(sample, codes_of=MovedBy(self.cells, move, "difference of means"))

        return way

    def _mean(self, concept: str | None) -> Tensor:
        """Mean pooled vector (width,) of a concept's photographs, of all where it is None."""
        pooled = self.training.pooled
        return pooled.mean(0) if concept is None else pooled[self.training.showing[concept]].mean(0)
