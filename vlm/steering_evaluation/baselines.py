"""Baselines on the wishes of the test half: same photographs, same language model, same judges."""

from collections.abc import Sequence
from dataclasses import dataclass

from vlm.steering_evaluation.concept_means import ConceptMean, success_mean
from vlm.steering_evaluation.mean_difference import MeanDifference
from vlm.steering_evaluation.prompts import PROMPTS, prompted
from vlm.steering_evaluation.random_features import RandomFeatures
from vlm.steering_evaluation.sae_feature import SaeFeatures
from vlm.steering_evaluation.sizes import Sizes
from vlm.steering_evaluation.strength import strengths
from vlm.steering_evaluation.task_wishes import TaskWishes
from vlm.steering_evaluation.three_tasks import FamilyResult, summary, tried_strengths
from vlm.steering_evaluation.wishes import Bench, Strength, Trial, unsteered
from vlm.verdicts import Task

NOTHING, RANDOM = "no steering", "random features"
MEANS, SAE = "difference of means", "autoencoder feature"


@dataclass(frozen=True)
class Baseline:
    """One baseline on one task.

    ours: the product's success on the very wishes that this baseline could be tried on. strength: one
    for all concepts as chosen on the dev half, None where there is none to choose.
    """

    task: Task
    name: str
    trials: tuple[Trial, ...]
    ours: ConceptMean
    strength: Strength | None = None

    @property
    def success(self) -> ConceptMean:
        return success_mean(self.trials)

    def to_json(self) -> dict[str, object]:
        return {
            "task": self.task,
            "name": self.name,
            "strength": self.strength and str(self.strength),
            **summary(self.trials),
            "steered_on_the_same": self.ours.to_json(),
        }


@dataclass(frozen=True)
class Rivals:
    """What the baselines need; the dense ones are None where there are no training photographs."""

    random: RandomFeatures
    means: MeanDifference | None
    sae: SaeFeatures | None
    sizes: Sizes

    def on(self, bench: Bench, wishes: TaskWishes, ours: FamilyResult) -> list[Baseline]:
        """All baselines of one task."""
        task = wishes.task

        def plain(name: str, trials: Sequence[Trial]) -> Baseline:
            return Baseline(task, name, tuple(trials), success_mean(ours.own))

        found = [plain(NOTHING, bench.tried(f"{task}, {NOTHING}", wishes.test, unsteered))]
        for name in PROMPTS:
            trials = bench.tried(f"{task}, prompt, {name}", wishes.test, prompted(name))
            found.append(plain(prompt_name(name), trials))
        draws: list[Trial] = []
        for draw in range(self.sizes.control_draws):
            way = self.random.way(draw, ours.chosen.of)
            draws += bench.tried(f"{task}, {RANDOM}, draw {draw + 1}", wishes.test, way)
        found.append(plain(RANDOM, draws))
        if self.means is not None:
            grid = [Strength(0, alpha) for alpha in self.sizes.alphas]
            found += self._dense(bench, wishes, ours, MEANS, self.means, grid)
        if self.sae is not None:
            doses = None if task == "suppression" else self.sizes.doses
            grid = strengths(self.sizes.sae_ks, doses)
            found += self._dense(bench, wishes, ours, SAE, self.sae, grid)
        return found

    def _dense(
        self,
        bench: Bench,
        wishes: TaskWishes,
        ours: FamilyResult,
        name: str,
        rival: MeanDifference | SaeFeatures,
        grid: Sequence[Strength],
    ) -> list[Baseline]:
        """On the wishes whose concepts have training photographs enough."""
        within = TaskWishes(
            wishes.task,
            tuple(wish for wish in wishes.dev if rival.can(wish)),
            tuple(wish for wish in wishes.test if rival.can(wish)),
            wishes.eligible,
        )
        if not within.dev or not within.test:
            return []
        result = tried_strengths(bench, within, name, grid, rival.way, name)
        same = set(within.test)
        own = success_mean([trial for trial in ours.own if trial.wish in same])
        return [Baseline(wishes.task, name, result.own, own, result.chosen.common)]


def prompt_name(name: str) -> str:
    """A prompt baseline's name in the report."""
    return f"prompt, {name}"


def best_prompt(found: Sequence[Baseline], task: Task) -> Baseline | None:
    """The prompt with the larger success."""
    names = {prompt_name(name) for name in PROMPTS}
    asked = [one for one in found if one.task == task and one.name in names]
    return max(asked, key=lambda one: one.success.mean or 0.0, default=None)


def named(found: Sequence[Baseline], task: Task, name: str) -> Baseline | None:
    """One baseline of a task."""
    return next((one for one in found if (one.task, one.name) == (task, name)), None)
