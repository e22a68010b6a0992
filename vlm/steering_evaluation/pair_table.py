"""What a steering evaluation found: per pair and task, as dataclasses, JSON and a text table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vlm.corruption import RULES, Rule
from vlm.rate import Rate
from vlm.steering_evaluation.pairs import SteeringPair
from vlm.verdicts import Task, Verdict


@dataclass(frozen=True)
class SteeredAnswer:
    """One eligible image before and after."""

    key: str
    unsteered: str
    steered: str
    verdict: Verdict


@dataclass(frozen=True)
class TaskResult:
    """One pair and task. Rates are over the eligible images; larger is better but for corruption.

    n_images: images looked at. n_eligible: all that were eligible, of which ``answers`` may be a
    drawn part. n_features: features touched by the edits. controls: success of each draw of random
    features. prompted: success of asking for the target in words, without steering. None or empty
    where a baseline was not run.
    """

    pair: SteeringPair
    task: Task
    n_images: int
    n_eligible: int
    n_features: int
    answers: tuple[SteeredAnswer, ...] = field(repr=False)
    unsteered: Rate  # success of the unsteered answers to the same images: 0 by eligibility
    controls: tuple[Rate, ...] = ()
    prompted: Rate | None = None

    @property
    def success(self) -> Rate:
        """Both criteria and not corrupt; for a single-edit task, its one criterion."""
        return Rate.of([answer.verdict.succeeds(self.task) for answer in self.answers])

    @property
    def success_ignoring_corruption(self) -> Rate:
        """What success would be if broken answers counted; the gap is what strength costs."""
        return Rate.of([answer.verdict.meets(self.task) for answer in self.answers])

    @property
    def target_appears(self) -> Rate:
        """First half: the target is mentioned, and the answer is not corrupt."""
        return Rate.of([a.verdict.says_target and not a.verdict.fired for a in self.answers])

    @property
    def source_gone(self) -> Rate:
        """Second half: the source is not mentioned, and the answer is not corrupt."""
        return Rate.of([not a.verdict.says_source and not a.verdict.fired for a in self.answers])

    @property
    def corrupt(self) -> Rate:
        """Share of steered answers with any rule fired."""
        return Rate.of([bool(answer.verdict.fired) for answer in self.answers])

    def corrupt_by(self, rule: Rule) -> Rate:
        """Share of steered answers with this rule fired."""
        return Rate.of([rule in answer.verdict.fired for answer in self.answers])

    @property
    def control(self) -> Rate | None:
        """All control draws together."""
        return sum(self.controls, Rate(0, 0)) if self.controls else None

    @property
    def selectivity(self) -> float | None:
        """Success minus that of random features; 1 is best, 0 says the features mean nothing."""
        rate, control = self.success.value, (self.control or Rate(0, 0)).value
        return None if rate is None or control is None else rate - control

    def to_json(self) -> dict[str, object]:
        return {
            "source": self.pair.source,
            "target": self.pair.target,
            "task": self.task,
            "images": self.n_images,
            "eligible": self.n_eligible,
            "features": self.n_features,
            "success": self.success.to_json(),
            "success_ignoring_corruption": self.success_ignoring_corruption.to_json(),
            "target_appears": self.target_appears.to_json(),
            "source_gone": self.source_gone.to_json(),
            "corrupt": self.corrupt.to_json(),
            "corrupt_by_rule": {rule: self.corrupt_by(rule).to_json() for rule in RULES},
            "unsteered": self.unsteered.to_json(),
            "controls": [rate.to_json() for rate in self.controls],
            "selectivity": self.selectivity,
            "prompted": self.prompted and self.prompted.to_json(),
            "answers": [
                {
                    "key": answer.key,
                    "unsteered": answer.unsteered,
                    "steered": answer.steered,
                    "says_source": answer.verdict.says_source,
                    "says_target": answer.verdict.says_target,
                    "corrupt": list(answer.verdict.fired),
                }
                for answer in self.answers
            ],
        }


@dataclass(frozen=True)
class SteeringEvaluation:
    """All pairs and tasks of one run and the settings that they share.

    dose: of the clamp, in p99 units. unsteered_corrupt: share of the unsteered answers that the
    corruption rules call broken, their false alarm. perplexity_judged: whether rule C5 was active.
    """

    fingerprint: str
    k: int
    dose: float
    unsteered_corrupt: Rate
    perplexity_judged: bool
    results: tuple[TaskResult, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "fingerprint": self.fingerprint,
            "k": self.k,
            "dose": {"value": self.dose, "unit": "p99"},
            "unsteered_corrupt": self.unsteered_corrupt.to_json(),
            "perplexity_judged": self.perplexity_judged,
            "results": [result.to_json() for result in self.results],
        }

    def table(self) -> str:
        """Text: a row for each pair and task, then corruption by rule."""
        note = "" if self.perplexity_judged else "; rule perplexity not judged"
        return "\n".join(
            [
                f"model {self.fingerprint[:12]}, k {self.k}, dose {self.dose:g} p99; successes in % "
                "of the judged eligible images, 95 % Wilson interval",
                *aligned([HEADINGS, *(table_row(result) for result in self.results)]),
                "",
                f"corrupt answers by rule (unsteered answers: {self.unsteered_corrupt}{note})",
                *aligned([("pair", "task", *RULES), *(self._rule_row(r) for r in self.results)]),
            ]
        )

    def _rule_row(self, result: TaskResult) -> tuple[str, ...]:
        """Pair, task and the share of answers with each rule fired; "-" for a rule not judged."""
        shares = (
            per_cent(
                result.corrupt_by(rule) if rule != "perplexity" or self.perplexity_judged else None
            )
            for rule in RULES
        )
        return str(result.pair), result.task, *shares


HEADINGS = (
    "pair",
    "task",
    "eligible/images",
    "features",
    "success",
    "target appears",
    "source gone",
    "ignoring corruption",
    "corrupt",
    "unsteered",
    "random features",
    "prompt only",
)


def table_row(result: TaskResult) -> tuple[str, ...]:
    """The cells below HEADINGS; the two halves are those of a replacement."""
    has_halves = result.task == "replacement"
    return (
        str(result.pair),
        result.task,
        f"{result.n_eligible}/{result.n_images}",
        str(result.n_features),
        str(result.success),
        per_cent(result.target_appears if has_halves else None),
        per_cent(result.source_gone if has_halves else None),
        per_cent(result.success_ignoring_corruption),
        per_cent(result.corrupt),
        per_cent(result.unsteered),
        per_cent(result.control),
        per_cent(result.prompted),
    )


def per_cent(rate: Rate | None) -> str:
    """ "62 %"; "-" where nothing was judged."""
    return "-" if rate is None or rate.value is None else f"{100 * rate.value:.0f} %"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of equal columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
