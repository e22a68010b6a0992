"""Measures one dose-response curve after another on the same photographs.

Every photograph of the pool is captioned unsteered once: that decides which of them can show an
insertion of a name (those whose caption and label lack it), and fits the corruption rules. Questions
go photograph by photograph, all doses of one together, so that its code is computed once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparse_encoder.doses import DoseCurve
from vlm.answer_batches import GivenAnswer, Question, Sample
from vlm.dose_response import CORRUPTION_BAR, SUCCESS_ASKED, DosePoint, judged
from vlm.dose_target import DoseTarget
from vlm.mention import mentions
from vlm.rate import Rate
from vlm.verdicts import Judge

Ask = Callable[[str, Sequence[Question]], Sequence[GivenAnswer]]  # what is asked about, questions


@dataclass(frozen=True)
class DoseTrials:
    """What all curves of one calibration share; samples and unsteered run in parallel.

    n_images: at most so many photographs a curve, the first that are eligible. success, corruption:
    what is asked and the bar, [0, 1].
    """

    ask: Ask
    judge: Judge
    samples: Sequence[Sample]
    unsteered: Sequence[GivenAnswer]
    n_images: int
    success: float = SUCCESS_ASKED
    corruption: float = CORRUPTION_BAR

    def eligible(self, target: DoseTarget) -> list[Sample]:
        """Photographs that neither say nor show the name without steering."""
        found = [
            sample
            for sample, answer in zip(self.samples, self.unsteered, strict=True)
            if not mentions(target.lexicon, answer.text)
            and not (sample.label and mentions(target.lexicon, sample.label))
        ]
        return found[: self.n_images]

    def points(self, target: DoseTarget, doses: Sequence[float]) -> list[DosePoint]:
        """Success and corruption at each dose, on the same photographs."""
        samples = self.eligible(target)
        questions = [
            Question(sample, edits=(target.edit(dose),)) for sample in samples for dose in doses
        ]
        answers = self.ask(target.label, questions)
        fired = self.judge.fired(answers)
        points = []
        for i, dose in enumerate(doses):
            here = range(i, len(answers), len(doses))
            points.append(
                DosePoint(
                    dose,
                    Rate.of(
                        [not fired[j] and mentions(target.lexicon, answers[j].text) for j in here]
                    ),
                    Rate.of([bool(fired[j]) for j in here]),
                )
            )
        return points

    def curve(self, target: DoseTarget, doses: Sequence[float]) -> DoseCurve:
        """The curve as the atlas keeps it."""
        points = self.points(target, doses)
        counted = DoseCurve(
            concept=target.concept,
            k=target.k,
            feature=target.feature,
            name=target.name,
            doses=tuple(doses),
            n_images=points[0].success.eligible if points else 0,
            successes=tuple(point.success.successes for point in points),
            corrupt=tuple(point.corrupt.successes for point in points),
            effective=None,
            safe_max=None,
            monotone=None,
        )
        return judged(counted, self.success, self.corruption)
