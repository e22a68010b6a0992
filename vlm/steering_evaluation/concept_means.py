"""Means over concepts, with intervals: a concept counts once, however many photographs it has."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlm.rate import Rate
from vlm.steering_evaluation.wishes import Trial

N_RESAMPLES = 2000


@dataclass(frozen=True)
class ConceptMean:
    """Mean of a share over concepts, and its 95 % bootstrap interval over them; None of nothing."""

    mean: float | None
    low: float | None
    high: float | None
    n_concepts: int

    def to_json(self) -> dict[str, object]:
        return {
            "mean": self.mean,
            "bootstrap_95": None if self.mean is None else [self.low, self.high],
            "concepts": self.n_concepts,
        }

    def __str__(self) -> str:
        """ "62 % (48-74)"; "-" of nothing."""
        if self.mean is None or self.low is None or self.high is None:
            return "-"
        return f"{100 * self.mean:.0f} % ({100 * self.low:.0f}-{100 * self.high:.0f})"


def concept_mean(shares: Sequence[float], seed: int = 0) -> ConceptMean:
    """Of one share in [0, 1] a concept. Concepts are what is resampled, not photographs."""
    if not shares:
        return ConceptMean(None, None, None, 0)
    values = np.asarray(shares, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(N_RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return ConceptMean(float(values.mean()), float(low), float(high), len(values))


def by_concept(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Trials of each concept, in alphabetical order."""
    found: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        found[trial.wish.concept].append(trial)
    return dict(sorted(found.items()))


def success_mean(trials: Sequence[Trial]) -> ConceptMean:
    """Mean over concepts of the share of successes."""
    return concept_mean([_share([t.success for t in own]) for own in by_concept(trials).values()])


def corrupt_mean(trials: Sequence[Trial]) -> ConceptMean:
    """Mean over concepts of the share of corrupt answers; lower is better."""
    return concept_mean(
        [_share([bool(t.fired) for t in own]) for own in by_concept(trials).values()]
    )


def unchanged_mean(trials: Sequence[Trial]) -> ConceptMean:
    """Mean over concepts of the share of answers that stay letter for letter."""
    return concept_mean(
        [_share([t.before == t.after for t in own]) for own in by_concept(trials).values()]
    )


def retained_mean(trials: Sequence[Trial]) -> ConceptMean:
    """Mean over concepts of the mean share of retained objects, where there were any."""
    means = []
    for own in by_concept(trials).values():
        kept = [t.retained for t in own if t.retained is not None]
        if kept:
            means.append(sum(kept) / len(kept))
    return concept_mean(means)


def rates(trials: Sequence[Trial]) -> Mapping[str, Rate]:
    """Successes of each concept."""
    return {
        concept: Rate.of([trial.success for trial in own])
        for concept, own in by_concept(trials).items()
    }


def _share(outcomes: list[bool]) -> float:
    return sum(outcomes) / len(outcomes)
