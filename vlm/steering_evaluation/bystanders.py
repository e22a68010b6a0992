"""What an ablation does to photographs whose caption never named the thing.

Who forbids a concept over a whole archive ablates it everywhere, and most photographs do not show it.
Best is a caption that stays as it was.
"""

from dataclasses import dataclass

from vlm.rate import Rate
from vlm.steering_evaluation.concept_means import (
    ConceptMean,
    by_concept,
    retained_mean,
    unchanged_mean,
)
from vlm.steering_evaluation.photographs import TEST, drawn
from vlm.steering_evaluation.three_tasks import FamilyResult
from vlm.steering_evaluation.wishes import Bench, Wish, steered


@dataclass(frozen=True)
class Bystanders:
    """Captions of such photographs with the strengths of one family of a suppression.

    unchanged: mean over concepts of the share that stay letter for letter. retained: of the share of other
    objects that are still said. corrupt: of all answers.
    """

    family: str
    unchanged: ConceptMean
    retained: ConceptMean
    corrupt: Rate

    def to_json(self) -> dict[str, object]:
        return {
            "family": self.family,
            "unchanged": self.unchanged.to_json(),
            "retained": self.retained.to_json(),
            "corrupt": self.corrupt.to_json(),
        }


def bystanders(bench: Bench, family: FamilyResult, n: int) -> Bystanders:
    """Each concept of the family's test ablated in n photographs of that half that do not say it."""
    wishes: list[Wish] = []
    for concept in by_concept(family.own):
        said = bench.photographs.saying(bench.lexicons[concept])
        pool = bench.photographs.of_half(TEST) - said
        images = drawn(pool, n, bench.seed, *concept.encode())
        wishes += [Wish(image, "suppression", source=concept) for image in images]
    stage = f"suppression, {family.family}, of what is not named"
    trials = bench.tried(stage, wishes, steered(family.chosen.of))
    return Bystanders(
        family.family,
        unchanged_mean(trials),
        retained_mean(trials),
        Rate.of([bool(trial.fired) for trial in trials]),
    )
