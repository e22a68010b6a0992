"""Insertion, suppression and replacement: strength chosen on one half, success reported on the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vlm.rate import Rate
from vlm.steering_evaluation.concept_means import (
    ConceptMean,
    corrupt_mean,
    rates,
    retained_mean,
    success_mean,
)
from vlm.steering_evaluation.strength import Chosen, Score, choose, score, strengths
from vlm.steering_evaluation.task_wishes import TaskWishes
from vlm.steering_evaluation.wishes import (
    Bench,
    Strength,
    Trial,
    Way,
    corrupt_by_rule,
    steered,
)
from vlm.verdicts import Task

WaysOf = Callable[[Callable[[str], Strength]], Way]


@dataclass(frozen=True)
class Family:
    """Numbers of features among which the dose and K are chosen: "K <= 4" is what the bars are for."""

    name: str
    ks: tuple[int, ...]


FAMILIES = (Family("K <= 4", (1, 2, 4)), Family("K 8", (8,)), Family("K 16", (16,)))
HEADLINE = FAMILIES[0].name


@dataclass(frozen=True)
class Strongest:
    """Each concept's own strength, chosen without regard to what else is retained; test trials."""

    chosen: Chosen
    trials: tuple[Trial, ...]

    def to_json(self) -> dict[str, object]:
        common = self.chosen.common
        return {"k": common.k, "dose_p99": common.dose, **summary(self.trials)}


@dataclass(frozen=True)
class FamilyResult:
    """One task with one family.

    curve: the dev half's score at each strength tried. own: test trials with each concept's own
    strength, which is what the bars are compared with; common: with one strength for all. strongest:
    None where that was not asked.
    """

    task: Task
    family: str
    chosen: Chosen
    curve: Mapping[Strength, Score]
    own: tuple[Trial, ...]
    common: tuple[Trial, ...]
    strongest: Strongest | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "task": self.task,
            "family": self.family,
            "curve_on_dev": [
                {
                    "k": strength.k,
                    "dose_p99": strength.dose,
                    "success": found.success,
                    "sound": found.sound,
                    "retained": found.retained,
                    "harmonic_mean": found.mean,
                    "n": found.n,
                }
                for strength, found in self.curve.items()
            ],
            "one_strength": {
                "k": self.chosen.common.k,
                "dose_p99": self.chosen.common.dose,
                **summary(self.common),
            },
            "own_strength": summary(self.own),
            **({} if self.strongest is None else {"strongest": self.strongest.to_json()}),
            "concepts": {
                concept: {
                    "k": self.chosen.of(concept).k,
                    "dose_p99": self.chosen.of(concept).dose,
                    **rate.to_json(),
                }
                for concept, rate in rates(self.own).items()
            },
        }


def tried_family(
    bench: Bench,
    wishes: TaskWishes,
    family: Family,
    doses: Sequence[float],
    ways: WaysOf = steered,
    name: str = "steered",
) -> FamilyResult:
    """Chooses on the dev half, reports on the test half."""
    task = wishes.task
    grid = strengths(family.ks, None if task == "suppression" else doses)
    return tried_strengths(bench, wishes, family.name, grid, ways, name)


def tried_strengths(
    bench: Bench,
    wishes: TaskWishes,
    family: str,
    grid: Sequence[Strength],
    ways: WaysOf,
    name: str,
) -> FamilyResult:
    """The same over any list of strengths."""
    stage = f"{wishes.task}, {name}"
    tried = {
        strength: bench.tried(f"{stage}, {strength}", wishes.dev, ways(always(strength)))
        for strength in grid
    }
    chosen = choose(tried)
    own = bench.tried(f"{stage}, {family}, own", wishes.test, ways(chosen.of))
    common = bench.tried(f"{stage}, {family}, one", wishes.test, ways(always(chosen.common)))
    curve = {strength: score(trials) for strength, trials in tried.items()}
    result = FamilyResult(wishes.task, family, chosen, curve, tuple(own), tuple(common))
    if family != HEADLINE:
        return result
    hardest = choose(tried, retaining=False)
    trials = bench.tried(f"{stage}, {family}, strongest", wishes.test, ways(hardest.of))
    return replace(result, strongest=Strongest(hardest, tuple(trials)))


def always(strength: Strength) -> Callable[[str], Strength]:
    """One strength, whatever the concept."""
    return lambda _: strength


def summary(trials: Sequence[Trial]) -> dict[str, object]:
    """What is said of any list of trials: means over concepts, and all photographs together."""
    means: dict[str, ConceptMean] = {
        "success": success_mean(trials),
        "corrupt": corrupt_mean(trials),
        "retained": retained_mean(trials),
    }
    return {
        **{key: mean.to_json() for key, mean in means.items()},
        "corrupt_by_rule": {k: r.to_json() for k, r in corrupt_by_rule(trials).items()},
        "photographs": Rate.of([trial.success for trial in trials]).to_json(),
        "success_ignoring_corruption": Rate.of(
            [trial.verdict.meets(trial.wish.task) for trial in trials]
        ).to_json(),
        "target_appears": Rate.of(
            [t.verdict.says_target and not t.fired for t in trials if t.wish.target is not None]
        ).to_json(),
        "source_gone": Rate.of(
            [not t.verdict.says_source and not t.fired for t in trials if t.wish.source is not None]
        ).to_json(),
    }
