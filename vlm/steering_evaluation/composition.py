"""Two and three edits at once: whether each of them succeeds, and all of them together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlm.answer_batches import Question
from vlm.edits import Edit
from vlm.mention import mentions
from vlm.rate import Rate
from vlm.steering_evaluation.photographs import TEST, drawn
from vlm.steering_evaluation.task_wishes import target_for
from vlm.steering_evaluation.wishes import Bench, Strength, Wish, edits_of
from vlm.verdicts import Task

KINDS: dict[str, tuple[Task, ...]] = {
    "two: insert, insert": ("insertion", "insertion"),
    "two: suppress, insert": ("suppression", "insertion"),
    "three: suppress, insert, insert": ("suppression", "insertion", "insertion"),
}


@dataclass(frozen=True)
class Composed:
    """Answers to several edits at once, of one kind. each: the edits in their order."""

    kind: str
    each: tuple[Rate, ...]
    all_of: Rate
    corrupt: Rate

    def to_json(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "each": [rate.to_json() for rate in self.each],
            "all": self.all_of.to_json(),
            "corrupt": self.corrupt.to_json(),
        }


def composition(
    bench: Bench, strength_of: dict[Task, Callable[[str], Strength]], n_images: int
) -> list[Composed]:
    """n_images photographs of the test half, drawn by chance, for each kind.

    A success needs a sound answer; that of all needs each. Suppressed is a concept that the unsteered
    answer says, drawn by chance; inserted are concepts that it does not.
    """
    return [_kind(bench, kind, tasks, strength_of, n_images) for kind, tasks in KINDS.items()]


def _kind(
    bench: Bench,
    kind: str,
    tasks: Sequence[Task],
    strength_of: dict[Task, Callable[[str], Strength]],
    n_images: int,
) -> Composed:
    photographs = bench.photographs
    rows = []
    for image in drawn(photographs.of_half(TEST), len(photographs.samples), bench.seed):
        wishes = _wishes(bench, image, tasks)
        if wishes is not None:
            rows.append(wishes)
    rows = [rows[i] for i in drawn(range(len(rows)), n_images, bench.seed)]
    questions = []
    for wishes in rows:
        edits: list[Edit] = []
        for wish in wishes:
            edits += edits_of(wish, strength_of[wish.task](wish.concept))
        questions.append(Question(photographs.samples[wishes[0].image], edits=tuple(edits)))
    answers = bench.ask(f"several edits at once, {kind}", questions)
    fired = bench.judge.fired(answers)
    met = [
        [_met(bench, wish, answer.text) and not broken for wish in wishes]
        for wishes, answer, broken in zip(rows, answers, fired, strict=True)
    ]
    return Composed(
        kind,
        tuple(Rate.of([row[place] for row in met]) for place in range(len(tasks))),
        Rate.of([all(row) for row in met]),
        Rate.of([bool(broken) for broken in fired]),
    )


def _wishes(bench: Bench, image: int, tasks: Sequence[Task]) -> list[Wish] | None:
    """What is wished of one photograph, None where it does not lend itself."""
    said = sorted(
        name
        for name, lexicon in bench.lexicons.items()
        if image in bench.photographs.saying(lexicon)
    )
    wishes, used = [], list[str]()
    for task in tasks:
        if task == "suppression":
            if not said:
                return None
            concept = said[drawn(range(len(said)), 1, bench.seed, image)[0]]
            wishes.append(Wish(image, task, source=concept))
        else:
            found = target_for(bench, image, *used)
            if found is None:
                return None
            concept = found
            wishes.append(Wish(image, task, target=concept))
        used.append(concept)
    return wishes


def _met(bench: Bench, wish: Wish, text: str) -> bool:
    says = mentions(bench.lexicons[wish.concept], text)
    return not says if wish.task == "suppression" else says
