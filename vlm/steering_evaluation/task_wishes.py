"""Which wishes are tried: concepts with enough eligible photographs, and photographs of both halves.

Eligible (PAPER 2.3): for an insertion of b, the unsteered answer does not say b; for a suppression
of a, it says a; for a replacement, it says a and not b. The b of a replacement is drawn by chance for
each photograph.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlm.mention import pair_is_valid
from vlm.steering_evaluation.candidates import MIN_ELIGIBLE
from vlm.steering_evaluation.photographs import DEV, TEST, drawn
from vlm.steering_evaluation.wishes import Bench, Wish
from vlm.verdicts import Task

TRIES = 20  # draws of a target before a photograph is given up


@dataclass(frozen=True)
class TaskWishes:
    """Wishes of one task on both halves, and how many photographs were eligible for each concept."""

    task: Task
    dev: tuple[Wish, ...]
    test: tuple[Wish, ...]
    eligible: Mapping[str, int]

    @property
    def concepts(self) -> list[str]:
        return sorted({wish.concept for wish in self.test})


@dataclass(frozen=True)
class HowMany:
    """Numbers of concepts and of photographs a concept. None: all concepts."""

    concepts: int | None = None
    dev: int = 8
    test: int = 20
    min_eligible: int = MIN_ELIGIBLE


def task_wishes(bench: Bench, task: Task, many: HowMany) -> TaskWishes:
    """Concepts are drawn by seed where there are more than are wanted."""
    everything = frozenset(range(len(bench.photographs.samples)))
    eligible: dict[str, frozenset[int]] = {}
    for concept, lexicon in bench.lexicons.items():
        said = bench.photographs.saying(lexicon)
        found = everything - said if task == "insertion" else said
        if len(found) >= many.min_eligible:
            eligible[concept] = found
    names = sorted(eligible)
    if many.concepts is not None:
        names = [names[i] for i in drawn(range(len(names)), many.concepts, bench.seed)]
    wishes: dict[int, list[Wish]] = {DEV: [], TEST: []}
    for concept in names:
        for half, n in ((DEV, many.dev), (TEST, many.test)):
            pool = eligible[concept] & bench.photographs.of_half(half)
            for image in drawn(pool, n, bench.seed, *concept.encode()):
                wish = _wish(bench, task, concept, image)
                if wish is not None:
                    wishes[half].append(wish)
    return TaskWishes(
        task,
        tuple(wishes[DEV]),
        tuple(wishes[TEST]),
        {concept: len(eligible[concept]) for concept in names},
    )


def _wish(bench: Bench, task: Task, concept: str, image: int) -> Wish | None:
    if task == "insertion":
        return Wish(image, task, target=concept)
    if task == "suppression":
        return Wish(image, task, source=concept)
    target = target_for(bench, image, concept)
    return None if target is None else Wish(image, task, concept, target)


def target_for(bench: Bench, image: int, *others: str) -> str | None:
    """A concept by chance that the photograph's answer does not say and `others` do not overlap."""
    names = sorted(bench.lexicons)
    rng = np.random.default_rng([bench.seed, image, *(b for o in others for b in o.encode())])
    for _ in range(TRIES):
        target = names[int(rng.integers(len(names)))]
        lexicon = bench.lexicons[target]
        if image not in bench.photographs.saying(lexicon) and all(
            pair_is_valid(bench.lexicons[other], lexicon) for other in others
        ):
            return target
    return None
