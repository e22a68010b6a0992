"""The paper's own measure: cosines between answers and labels by a sentence encoder.

The paper does not name its encoder; ours is all-MiniLM-L6-v2. It is also the text trunk of
sparsight-mini, on which the choice of features rests, so it is no independent judge there: that is why
its agreement with the mention test is part of every report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from sparse_encoder.mini_parts import TEXT_TRUNK_PART
from sparse_encoder.parts import ensure_part
from sparse_encoder.text_trunk import SentenceTrunk
from sparse_encoder.wheel import Progress
from vlm.mention import Lexicon, mentions
from vlm.steering_evaluation.wishes import Trial
from vlm.verdicts import Task

NAME = TEXT_TRUNK_PART.name
Embed = Callable[[list[str]], Tensor]  # texts to vectors (texts, width), of any length


def load_sbert(progress: Progress | None = None) -> SentenceTrunk:
    """all-MiniLM-L6-v2, assembled in the cache where it is missing."""
    return SentenceTrunk(ensure_part(TEXT_TRUNK_PART, progress=progress))


@dataclass
class Sbert:
    """Cosines, each text embedded once."""

    embed: Embed
    _known: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def cosine(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The cosine of each pair of texts, in [-1, 1]."""
        new = sorted({text for pair in pairs for text in pair} - self._known.keys())
        if new:
            vectors = normalize(self.embed(new).float(), dim=1)
            self._known.update(zip(new, vectors, strict=True))
        return [float(self._known[one] @ self._known[other]) for one, other in pairs]

    def drift(self, before: str, after: str, labels: Sequence[str]) -> float:
        """Mean over labels of how far the answer's cosine to them moved; 0 for the same answer."""
        old = self.cosine([(before, label) for label in labels])
        new = self.cosine([(after, label) for label in labels])
        return float(np.mean(np.abs(np.subtract(new, old)))) if labels else 0.0


@dataclass(frozen=True)
class SoftScores:
    """Mean cosines of answers to the label taken away and to the one put in; None without a label.

    wins: share of answers nearer to the target than to the source, of those not corrupt; higher is
    better.
    """

    source_before: float | None
    source_after: float | None
    target_before: float | None
    target_after: float | None
    wins: float | None

    def to_json(self) -> dict[str, float | None]:
        return dict(vars(self))


def soft_scores(trials: Sequence[Trial], sbert: Sbert) -> SoftScores:
    """Of trials of one kind; a suppression has no target, an insertion no source."""

    def mean(which: str, answer: str) -> float | None:
        pairs = [
            (getattr(t, answer), label)
            for t in trials
            if (label := getattr(t.wish, which)) is not None
        ]
        return float(np.mean(sbert.cosine(pairs))) if pairs else None

    outcomes = [
        to_target > to_source
        for trial in trials
        if trial.wish.source is not None and trial.wish.target is not None and not trial.fired
        for to_source, to_target in [
            sbert.cosine([(trial.after, trial.wish.source), (trial.after, trial.wish.target)])
        ]
    ]
    return SoftScores(
        source_before=mean("source", "before"),
        source_after=mean("source", "after"),
        target_before=mean("target", "before"),
        target_after=mean("target", "after"),
        wins=sum(outcomes) / len(outcomes) if outcomes else None,
    )


@dataclass(frozen=True)
class SbertJudge:
    """Says whether an answer mentions a concept: its cosine to the word is at least `threshold`."""

    sbert: Sbert
    threshold: float

    @classmethod
    def fit(
        cls, sbert: Sbert, texts: Sequence[str], lexicons: Mapping[str, Lexicon]
    ) -> "SbertJudge":
        """The threshold that agrees best with the mention test on unsteered answers.

        Best by balanced accuracy: nearly all pairs of an answer and a concept are no mention.
        """
        distinct = sorted(set(texts))
        pairs = [(text, concept) for concept in sorted(lexicons) for text in distinct]
        cosine = np.array(sbert.cosine(pairs))
        said = np.array([mentions(lexicons[concept], text) for text, concept in pairs])
        return cls(sbert, best_threshold(cosine, said))

    def meets(self, trial: Trial) -> bool:
        """Whether the answer is as the task wants it, in the place of `Verdict.meets`."""
        says = [
            cosine >= self.threshold
            for label in (trial.wish.source, trial.wish.target)
            if label is not None
            for cosine in self.sbert.cosine([(trial.after, label)])
        ]
        wanted: dict[Task, list[bool]] = {
            "suppression": [False],
            "insertion": [True],
            "replacement": [False, True],
        }
        return says == wanted[trial.wish.task]


@dataclass(frozen=True)
class Agreement:
    """How far two judges say the same: kappa (1 always, 0 as by chance) and the plain share."""

    n: int
    share: float | None
    kappa: float | None  # None where a judge gives one verdict only, or nothing was judged

    def __str__(self) -> str:
        """ "agree on 93 % of 96 answers (kappa 0.81)"."""
        if self.share is None:
            return "judged no answer"
        kappa = "undefined" if self.kappa is None else f"{self.kappa:.2f}"
        return f"agree on {100 * self.share:.0f} % of {self.n} answers (kappa {kappa})"

    def to_json(self) -> dict[str, float | int | None]:
        return dict(vars(self))


def agreement(one: Sequence[bool], other: Sequence[bool]) -> Agreement:
    """Cohen's kappa (1960) of two judges on the same answers."""
    n = len(one)
    if n == 0:
        return Agreement(0, None, None)
    share = sum(a == b for a, b in zip(one, other, strict=True)) / n
    p, q = sum(one) / n, sum(other) / n
    chance = p * q + (1 - p) * (1 - q)
    return Agreement(n, share, None if chance == 1 else (share - chance) / (1 - chance))


def best_threshold(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", said: object) -> float:
    """The cut with the highest mean of both rates, halfway between neighbouring values.

    values: (n,); said: (n,) bool. 0.5 where all or none are said.
    """
    flags = np.asarray(said, dtype=bool)
    if flags.all() or not flags.any():
        return 0.5
    order = np.argsort(values, kind="stable")
    ranked, hit = values[order], flags[order]
    # Cutting below place i: what lies below is called no mention.
    below_missed = np.concatenate([[0], np.cumsum(hit)]) / hit.sum()
    below_right = np.concatenate([[0], np.cumsum(~hit)]) / (~hit).sum()
    balanced = (1 - below_missed + below_right) / 2
    free = np.concatenate([[True], ranked[1:] > ranked[:-1], [True]])  # no cut between equals
    place = int(np.argmax(np.where(free, balanced, -1)))
    low = ranked[max(place - 1, 0)]
    high = ranked[min(place, len(ranked) - 1)]
    return float((low + high) / 2)
