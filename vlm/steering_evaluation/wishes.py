"""What is wished of a photograph, by which way it is steered, and how the answer is judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vlm.answer_batches import Question, Sample
from vlm.corruption import RULES, Rule
from vlm.edits import Edit
from vlm.mention import Lexicon, mentions
from vlm.rate import Rate
from vlm.steering_evaluation.answer_book import Ask
from vlm.steering_evaluation.photographs import Photographs
from vlm.steering_evaluation.retained import retained
from vlm.verdicts import Judge, Task, Verdict

TASKS: tuple[Task, ...] = ("insertion", "suppression", "replacement")


@dataclass(frozen=True)
class Wish:
    """One photograph and what its answer should say after steering.

    concept: under which the result is counted: the target of an insertion, else the source.
    """

    image: int  # of the photographs
    task: Task
    source: str | None = None
    target: str | None = None

    @property
    def concept(self) -> str:
        chosen = self.target if self.task == "insertion" else self.source
        assert chosen is not None
        return chosen


@dataclass(frozen=True)
class Strength:
    """k features a concept, clamped at `dose` p99; None for a suppression, which has no dose.

    k 0 is for a way without features, whose dose is alpha: by how much whole vectors are moved.
    """

    k: int
    dose: float | None = None

    def __str__(self) -> str:
        if self.k == 0:
            return f"alpha {self.dose:g}"
        return f"K {self.k}" + ("" if self.dose is None else f", {self.dose:g} p99")


class Way(Protocol):
    """Turns a wish into a question: edits on features, other words, moved vectors, nothing."""

    def __call__(self, wish: Wish, sample: Sample) -> Question: ...


@dataclass(frozen=True)
class Trial:
    """One wish, asked and judged. retained: share of other objects that are still said, or None."""

    wish: Wish
    image: str  # key of the photograph
    before: str
    after: str
    verdict: Verdict
    retained: float | None

    @property
    def success(self) -> bool:
        return self.verdict.succeeds(self.wish.task)

    @property
    def fired(self) -> tuple[Rule, ...]:
        return self.verdict.fired


@dataclass(frozen=True)
class Bench:
    """What all parts of an evaluation share: who answers, on which photographs, judged how."""

    ask: Ask
    photographs: Photographs
    lexicons: Mapping[str, Lexicon]
    judge: Judge
    seed: int

    def tried(self, stage: str, wishes: Sequence[Wish], way: Way) -> list[Trial]:
        """Each wish carried out by one way."""
        photographs = self.photographs
        answers = self.ask(stage, [way(w, photographs.samples[w.image]) for w in wishes])
        trials = []
        for wish, answer, fired in zip(wishes, answers, self.judge.fired(answers), strict=True):
            before = photographs.texts[wish.image]
            named = [self.lexicons[c] for c in (wish.source, wish.target) if c is not None]
            trials.append(
                Trial(
                    wish,
                    photographs.samples[wish.image].key,
                    before,
                    answer.text,
                    Verdict(
                        self._says(wish.source, answer.text),
                        self._says(wish.target, answer.text),
                        fired,
                    ),
                    retained(before, answer.text, named),
                )
            )
        return trials

    def _says(self, concept: str | None, text: str) -> bool:
        return concept is not None and mentions(self.lexicons[concept], text)


def steered(strength_of: Callable[[str], Strength]) -> Way:
    """The product's way: features ablated and clamped; a strength by the wish's concept."""

    def way(wish: Wish, sample: Sample) -> Question:
        return Question(sample, edits=edits_of(wish, strength_of(wish.concept)))

    return way


def unsteered(wish: Wish, sample: Sample) -> Question:
    """No steering at all: by eligibility it never succeeds."""
    return Question(sample)


def edits_of(wish: Wish, strength: Strength) -> tuple[Edit, ...]:
    """Ablate the source, clamp the target, or both."""
    edits = []
    if wish.task != "insertion":
        edits.append(Edit("ablate", concept=wish.source, k=strength.k))
    if wish.task != "suppression":
        edits.append(Edit("clamp", concept=wish.target, value=strength.dose, k=strength.k))
    return tuple(edits)


def corrupt_by_rule(trials: Sequence[Trial]) -> dict[str, Rate]:
    """Share of answers with any rule fired ("any"), then with each; lower is better."""
    found = {"any": Rate.of([bool(trial.fired) for trial in trials])}
    return found | {str(rule): Rate.of([rule in t.fired for t in trials]) for rule in RULES}
