"""What an evaluation of steering found: plain data, JSON and a summary for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlm.rate import Rate
from vlm.steering_evaluation.bars import Bar, Measured, bars
from vlm.steering_evaluation.baselines import RANDOM, Baseline, best_prompt, named
from vlm.steering_evaluation.bystanders import Bystanders
from vlm.steering_evaluation.composition import Composed
from vlm.steering_evaluation.concept_means import ConceptMean, corrupt_mean, success_mean
from vlm.steering_evaluation.left_and_right import RegionResult
from vlm.steering_evaluation.pair_table import aligned
from vlm.steering_evaluation.paper_grid import PaperGrid
from vlm.steering_evaluation.sbert import Agreement, SoftScores
from vlm.steering_evaluation.side_effects import NoOp
from vlm.steering_evaluation.three_tasks import HEADLINE, FamilyResult, summary
from vlm.verdicts import Task

STRONGEST = "the same, chosen for success alone"


@dataclass(frozen=True)
class SideEffects:
    """What one task at K <= 4 does to what it should leave alone, beside random features.

    unrelated: answers to unrelated questions that stay letter for letter. drift: mean over answers of
    the SBERT drift to 50 other labels, of the product, random features and the better prompt.
    """

    task: Task
    unrelated: Rate
    unrelated_random: Rate
    retained: ConceptMean
    retained_random: ConceptMean
    drift: float
    drift_random: float
    drift_prompt: float | None

    def to_json(self) -> dict[str, object]:
        return {
            key: value.to_json() if hasattr(value, "to_json") else value
            for key, value in vars(self).items()
        }


@dataclass(frozen=True)
class Judging:
    """The second judge on one task: its mean cosines, and how far it agrees with the mention test."""

    task: Task
    scores: SoftScores
    success: ConceptMean  # by SBERT, corrupt answers being failures
    agreement: Agreement


@dataclass(frozen=True)
class SteeringReport:
    """Everything. `limits` says what the figures do not."""

    fingerprint: str
    sizes: Mapping[str, Any]
    photographs: Mapping[str, int]  # by set
    refused: Mapping[str, str]  # concepts that no edit can name, with the reason
    eligible: Mapping[str, Mapping[str, int]]  # task -> concept -> photographs
    unsteered_corrupt: Rate
    length_limit: float  # tokens
    nll_limit: float | None  # nat a token
    sbert: str
    sbert_threshold: float
    grid: PaperGrid
    families: Sequence[FamilyResult]
    baselines: Sequence[Baseline]
    judging: Sequence[Judging]
    side_effects: Sequence[SideEffects]
    bystanders: Sequence[Bystanders]
    no_op: NoOp
    composition: Sequence[Composed]
    regions: Sequence[RegionResult]
    to_check: Sequence[Mapping[str, object]] = field(repr=False)
    limits: Sequence[str]
    made_with: Mapping[str, object]

    def headline(self, task: Task) -> FamilyResult | None:
        """The task at K <= 4."""
        return next((f for f in self.families if (f.task, f.family) == (task, HEADLINE)), None)

    @property
    def bars(self) -> list[Bar]:
        measured: dict[Task, Measured] = {}
        for family in self.families:
            if family.family == HEADLINE and family.own:
                prompt = best_prompt(self.baselines, family.task)
                random = named(self.baselines, family.task, RANDOM)
                measured[family.task] = Measured(
                    success_mean(family.own).mean,
                    corrupt_mean(family.own).mean,
                    None if prompt is None else prompt.success.mean,
                    None if random is None else random.success.mean,
                    *_strongest(family),
                )
        return bars(measured)

    def to_json(self) -> dict[str, object]:
        return {
            "fingerprint": self.fingerprint,
            "bars": [bar.to_json() for bar in self.bars],
            "sizes": dict(self.sizes),
            "photographs": dict(self.photographs),
            "eligible": {task: dict(found) for task, found in self.eligible.items()},
            "refused_concepts": dict(self.refused),
            "corruption": {
                "unsteered": self.unsteered_corrupt.to_json(),
                "length_limit_tokens": self.length_limit,
                "nll_limit_nat_a_token": self.nll_limit,
            },
            "sbert": {"name": self.sbert, "threshold": self.sbert_threshold},
            "paper_grid": self.grid.to_json(),
            "tasks": [family.to_json() for family in self.families],
            "judging": [
                {
                    "task": one.task,
                    **one.scores.to_json(),
                    "success_by_sbert": one.success.to_json(),
                    "agreement_with_words": one.agreement.to_json(),
                }
                for one in self.judging
            ],
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "side_effects": [one.to_json() for one in self.side_effects],
            "bystanders": [one.to_json() for one in self.bystanders],
            "no_op": self.no_op.to_json(),
            "composition": [one.to_json() for one in self.composition],
            "regions": [one.to_json() for one in self.regions],
            "limits": list(self.limits),
            "made_with": dict(self.made_with),
        }

    def table(self) -> str:
        """Text: the bars, each task beside its baselines, how far the judges agree."""
        rows: list[tuple[str, ...]] = [
            ("task", "way", "success", "corrupt", "retained", "strength")
        ]
        for family in self.families:
            rows.append(_row(family.task, f"steered, {family.family}", summary(family.own), "own"))
            if family.strongest is not None:
                rows.append(_row(family.task, STRONGEST, summary(family.strongest.trials), "own"))
            common = str(family.chosen.common)
            rows.append(_row(family.task, "the same, one strength", summary(family.common), common))
        for baseline in self.baselines:
            strength = "" if baseline.strength is None else str(baseline.strength)
            rows.append(_row(baseline.task, baseline.name, summary(baseline.trials), strength))
        return "\n".join(
            [
                f"model {self.fingerprint[:12]}; means over concepts on the test half, 95 % "
                "bootstrap interval over concepts",
                *(str(bar) for bar in self.bars),
                "",
                *aligned(rows),
                "",
                *(f"{one.task}: words and SBERT {one.agreement}" for one in self.judging),
                *(
                    f"captions that do not name the ablated concept, {one.family}: unchanged "
                    f"{one.unchanged}, other objects kept {one.retained}"
                    for one in self.bystanders
                ),
            ]
        )


def _strongest(family: FamilyResult) -> tuple[float | None, float | None]:
    if family.strongest is None:
        return None, None
    found = family.strongest.trials
    return success_mean(found).mean, corrupt_mean(found).mean


def _row(task: str, way: str, found: Mapping[str, Any], strength: str) -> tuple[str, ...]:
    def share(key: str) -> str:
        mean = found[key]["mean"]
        if mean is None:
            return "-"
        low, high = found[key]["bootstrap_95"]
        return f"{100 * mean:.0f} % ({100 * low:.0f}-{100 * high:.0f})"

    return task, way, share("success"), share("corrupt"), share("retained"), strength
