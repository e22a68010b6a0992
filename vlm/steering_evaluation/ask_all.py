"""All questions of an evaluation, part by part: once against a counter, once in earnest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sparse_encoder.atlas import FeatureAtlas
from vlm.rate import Rate
from vlm.steering_evaluation.baselines import RANDOM, Baseline, Rivals
from vlm.steering_evaluation.bystanders import Bystanders, bystanders
from vlm.steering_evaluation.composition import Composed, composition
from vlm.steering_evaluation.left_and_right import RegionResult, left_and_right
from vlm.steering_evaluation.paper_grid import PaperGrid, paper_grid
from vlm.steering_evaluation.photographs import drawn
from vlm.steering_evaluation.sbert import Sbert
from vlm.steering_evaluation.side_effects import unrelated_unchanged
from vlm.steering_evaluation.task_wishes import TaskWishes
from vlm.steering_evaluation.three_tasks import (
    FAMILIES,
    HEADLINE,
    FamilyResult,
    tried_family,
)
from vlm.steering_evaluation.wishes import TASKS, Bench, Strength, steered
from vlm.template import SUBJECT_PROMPT
from vlm.verdicts import Task


@dataclass(frozen=True)
class Asked:
    """All that answers are needed for."""

    families: list[FamilyResult]
    baselines: list[Baseline]
    unrelated: dict[Task, tuple[Rate, Rate]]  # steered, random features
    bystanders: list[Bystanders]
    composition: list[Composed]
    regions: list[RegionResult]
    grid: PaperGrid


def ask_all(
    bench: Bench,
    subjects: Bench,
    atlas: FeatureAtlas,
    wishes: Mapping[Task, TaskWishes],
    rivals: Rivals,
    sbert: Sbert,
) -> Asked:
    """All questions of all parts; judged, but not yet compared."""
    sizes = rivals.sizes
    families, baselines, unrelated = [], [], {}
    strength_of: dict[Task, Callable[[str], Strength]] = {}
    for task, found in wishes.items():
        if not found.dev or not found.test:
            continue
        for family in FAMILIES if sizes.large_ks else FAMILIES[:1]:
            families.append(tried_family(bench, found, family, sizes.doses))
        headline = next(f for f in families if (f.task, f.family) == (task, HEADLINE))
        strength_of[task] = headline.chosen.of
        baselines += rivals.on(bench, found, headline)
        few = [found.test[i] for i in drawn(range(len(found.test)), sizes.unrelated, sizes.seed)]
        unrelated[task] = (
            unrelated_unchanged(bench, few, steered(headline.chosen.of), f"{task}, steered"),
            unrelated_unchanged(
                bench, few, rivals.random.way(0, headline.chosen.of), f"{task}, {RANDOM}"
            ),
        )
    whole = set(strength_of) == set(TASKS)
    taken_out = [family for family in families if family.task == "suppression"]
    return Asked(
        families,
        baselines,
        unrelated,
        [bystanders(bench, family, sizes.bystanders) for family in taken_out],
        composition(bench, strength_of, sizes.images) if whole else [],
        left_and_right(bench, strength_of, sizes.images) if whole else [],
        paper_grid(subjects, atlas, rivals.random.encode_text, sbert, sizes.images, SUBJECT_PROMPT),
    )
