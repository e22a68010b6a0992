"""Photographs that do not name the ablated thing: how many captions stay, and which are asked."""

from collections.abc import Sequence

from fake_captioner import fake_sample
from trials import trial

from vlm.answer_batches import Question
from vlm.corruption import CorruptionRules
from vlm.mention import Lexicon
from vlm.steering_evaluation.answer_book import KeptAnswer
from vlm.steering_evaluation.bystanders import bystanders
from vlm.steering_evaluation.photographs import DEV, TEST, Photographs
from vlm.steering_evaluation.strength import Chosen
from vlm.steering_evaluation.three_tasks import FamilyResult
from vlm.steering_evaluation.wishes import Bench, Strength
from vlm.verdicts import Judge

CAPTIONS = ("A dog.", "A cat.", "A cat and a bus.", "A bus.", "A bus.", "A cat.")
HALVES = (TEST, TEST, TEST, TEST, TEST, DEV)


def answer(text: str) -> KeptAnswer:
    return KeptAnswer(text, "stop", 4)


def test_captions_that_stay_are_counted_by_concept() -> None:
    samples = tuple(fake_sample(i) for i in range(len(CAPTIONS)))
    asked: list[Question] = []

    def ask(stage: str, questions: Sequence[Question]) -> list[KeptAnswer]:
        """The ablation of the dog takes each bus along, that of the cat nothing."""
        asked.extend(questions)
        before = [CAPTIONS[samples.index(q.sample)] for q in questions]
        dog = [q.edits[0].concept == "dog" for q in questions]
        return [
            answer(text.replace("bus", "thing") if gone else text)
            for text, gone in zip(before, dog, strict=True)
        ]

    photographs = Photographs(samples, tuple(answer(text) for text in CAPTIONS), HALVES)
    lexicons = {name: Lexicon.for_concept(name) for name in ("dog", "cat")}
    bench = Bench(ask, photographs, lexicons, Judge(CorruptionRules(60, None)), 0)
    own = (trial(True, "dog"), trial(True, "cat"))
    chosen = Chosen(Strength(4), {"cat": Strength(2)})
    found = bystanders(bench, FamilyResult("suppression", "K <= 4", chosen, {}, own, own), 10)
    # Of the test half three do not say "cat", and all stay; four do not say "dog", and one stays.
    said = [(q.edits[0].concept, q.edits[0].k, samples.index(q.sample)) for q in asked]
    assert sorted(said) == [("cat", 2, 0), ("cat", 2, 3), ("cat", 2, 4)] + [
        ("dog", 4, i) for i in (1, 2, 3, 4)
    ]
    assert found.unchanged.mean == (1 + 1 / 4) / 2
    # Without the bus: the cat, the cat of two things, nothing, nothing; the cat's ablation keeps all.
    assert found.retained.mean == ((1 + 1 / 2 + 0 + 0) / 4 + 1) / 2
    assert (found.corrupt.eligible, found.corrupt.value) == (7, 0)
