"""Choosing how strongly to steer: K and dose, on one half of the photographs.

One number a strength: the harmonic mean of success, of answers not corrupt and of content retained,
zero if any is zero (after AxBench, Wu et al. 2025, arXiv 2501.17148, whose three parts an LLM judges).
What is retained falls as success rises, so that number stops half way up; who wants the concept at any
price chooses by the first two alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vlm.steering_evaluation.wishes import Strength, Trial

PRIOR_TRIALS = 4.0  # by how many trials at the average of all concepts a concept's own are joined


@dataclass(frozen=True)
class Score:
    """The parts of the one number, shares in [0, 1], each with the number of trials behind it."""

    success: float
    sound: float  # not corrupt
    retained: float | None  # None where no answer had other objects to keep
    n: float

    @property
    def mean(self) -> float:
        """Harmonic mean in [0, 1], higher is better; of two parts where nothing could be retained."""
        return harmonic_mean(
            [part for part in (self.success, self.sound, self.retained) if part is not None]
        )


@dataclass(frozen=True)
class Chosen:
    """Strengths chosen on one half: one for all concepts, and each concept's own."""

    common: Strength
    own: Mapping[str, Strength]

    def of(self, concept: str) -> Strength:
        return self.own.get(concept, self.common)


def harmonic_mean(parts: Sequence[float]) -> float:
    """In [0, 1] for parts in [0, 1]; 0 if any part is 0."""
    if not parts or min(parts) <= 0:
        return 0.0
    return len(parts) / sum(1 / part for part in parts)


def score(trials: Sequence[Trial], prior: Score | None = None) -> Score:
    """The score of some trials, joined by PRIOR_TRIALS at the shares of `prior`.

    A concept has ten photographs or so on a half; alone they would choose by chance.
    """
    weight = 0.0 if prior is None else PRIOR_TRIALS
    base = prior or Score(0.0, 0.0, None, 0)
    kept = [trial.retained for trial in trials if trial.retained is not None]
    n, n_kept = len(trials) + weight, len(kept) + (weight if base.retained is not None else 0.0)
    return Score(
        success=(sum(t.success for t in trials) + weight * base.success) / n if n else 0.0,
        sound=(sum(not t.fired for t in trials) + weight * base.sound) / n if n else 0.0,
        retained=(sum(kept) + weight * (base.retained or 0.0)) / n_kept if n_kept else None,
        n=len(trials),
    )


def choose(tried: Mapping[Strength, Sequence[Trial]], *, retaining: bool = True) -> Chosen:
    """The best strength over all concepts and each concept's best; of equals the middle one.

    tried: trials of each strength, on the same photographs. retaining: whether content retained
    counts. Raises ValueError if there is none.
    """
    if not tried:
        raise ValueError("no strength was tried")

    def scored(trials: Sequence[Trial], prior: Score | None = None) -> Score:
        found = score(trials, prior)
        return found if retaining else replace(found, retained=None)

    overall = {strength: scored(trials) for strength, trials in tried.items()}
    by_concept: dict[str, dict[Strength, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for strength, trials in tried.items():
        for trial in trials:
            by_concept[trial.wish.concept][strength].append(trial)
    own = {
        concept: _best({s: scored(t, overall[s]).mean for s, t in trials.items()})
        for concept, trials in sorted(by_concept.items())
    }
    return Chosen(_best({s: found.mean for s, found in overall.items()}), own)


def _best(means: Mapping[Strength, float]) -> Strength:
    """The middle one, by K times dose, of those with the largest mean.

    On few photographs several strengths are perfect. The weakest of them is the one most likely to
    fail on others, the strongest the one most likely to break an answer.
    """
    top = max(means.values())
    tied = [strength for strength, mean in means.items() if mean == top]
    tied.sort(key=lambda s: (s.k * (s.dose or 1.0), s.k))
    return tied[len(tied) // 2]


def strengths(ks: Iterable[int], doses: Iterable[float] | None) -> list[Strength]:
    """All combinations; without doses, those of a suppression."""
    if doses is None:
        return [Strength(k) for k in ks]
    return [Strength(k, dose) for k in ks for dose in doses]
