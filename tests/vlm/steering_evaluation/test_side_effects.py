"""The no-op test finds edits that have nothing to change, and a path that changes something."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_captioner import FEATURES_OF, fake_request, fake_sample
from trials import embed, trial

from sparse_encoder.codes import Codes
from sparse_encoder.image import DecodedImage
from vlm.answer_batches import Question
from vlm.corruption import CorruptionRules
from vlm.edits import Edit
from vlm.mention import Lexicon
from vlm.steering_evaluation.answer_book import KeptAnswer
from vlm.steering_evaluation.photographs import Photographs
from vlm.steering_evaluation.sbert import Sbert
from vlm.steering_evaluation.side_effects import mean_drift, no_op, unrelated_unchanged
from vlm.steering_evaluation.wishes import Bench, Strength, Wish, steered
from vlm.verdicts import Judge


@dataclass
class OneFeature:
    """Every photograph has the same features active; `fault` is what a broken path would do."""

    active: tuple[int, ...]
    fault: str = ""

    def encode(self, images: Sequence[DecodedImage]) -> Codes:
        return Codes.from_dense(
            torch.zeros(len(images), 10).index_fill(1, torch.tensor(self.active), 1.0)
        )

    def steer(self, codes: Codes, edits: Sequence[Edit]) -> Any:
        by_number = [edit.feature for edit in edits if edit.feature is not None]
        features = by_number or FEATURES_OF[str(edits[0].concept)][: edits[0].k]
        applied = [SimpleNamespace(feature=feature) for feature in features]
        rows = codes.dense() + (0.1 if self.fault == "codes" else 0.0)
        return SimpleNamespace(applied=applied, codes=Codes.from_dense(rows))

    def answer(self, requests: Sequence[Any]) -> list[KeptAnswer]:
        text = "A dog" + "!" * (self.fault == "answers" and bool(requests[0].edits))
        return [KeptAnswer(text, "stop", 3)] * len(requests)


def bench() -> Bench:
    samples = tuple(fake_sample(i) for i in range(5))
    photographs = Photographs(samples, (KeptAnswer("A dog.", "stop", 3),) * 5, (0,) * 5)
    lexicons = {name: Lexicon.for_concept(name) for name in FEATURES_OF}
    return Bench(lambda *_: [], photographs, lexicons, Judge(CorruptionRules(60, None)), 0)


@pytest.mark.parametrize(
    ("pipeline", "counts"),
    [
        (OneFeature((3,)), (5, 5, 5)),  # cat's features, 5 and 8, are idle
        (OneFeature((3, 8)), (5, 5, 5)),  # with K 1: cat's first feature
        (OneFeature((3, 5, 7, 8)), (0, 0, 0)),  # none is idle
        (OneFeature((3,), fault="codes"), (5, 0, 5)),
        (OneFeature((3,), fault="answers"), (5, 5, 0)),
    ],
)
def test_only_edits_without_an_active_feature_are_held_to_change_nothing(
    pipeline: OneFeature, counts: tuple[int, int, int]
) -> None:
    found = no_op(bench(), pipeline, make_request=fake_request)
    assert (found.n, found.same_codes, found.same_answers) == counts


class AboutCars:
    """Who steers towards a car hears another colour, whatever else was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def __call__(self, stage: str, questions: Sequence[Question]) -> list[KeptAnswer]:
        self.asked += questions
        return [
            KeptAnswer("Red." if q.edits and "colour" in (q.prompt or "") else "Yes.", "stop", 2)
            for q in questions
        ]


@pytest.mark.parametrize(
    ("target", "asked", "moved"),
    [("dog", 6, 1), ("car", 5, 1)],  # of "car" nobody asks whether there is a car
)
def test_unrelated_questions_are_those_whose_word_the_wish_does_not_touch(
    target: str, asked: int, moved: int
) -> None:
    ask = AboutCars()
    lexicons = {name: Lexicon.for_concept(name) for name in ("dog", "car", "boat")}
    here = replace(bench(), ask=ask, lexicons=lexicons)
    wishes = [Wish(i, "insertion", target=target) for i in range(2)]
    found = unrelated_unchanged(here, wishes, steered(lambda _: Strength(4, 2.0)), "steered")
    assert (found.eligible, found.successes) == (2 * asked, 2 * (asked - moved))
    assert not any("car" in (q.prompt or "") for q in ask.asked) or target != "car"


def test_drift_is_the_mean_move_towards_labels_that_the_edit_does_not_name() -> None:
    sbert = Sbert(embed)
    still, moved = trial(True, after="A dog."), trial(True, after="A bus.")
    labels = ["bus", "dog", "cat"]  # "cat" is the target and counts for nothing
    assert mean_drift([still], labels, sbert, 0) == 0
    alone = mean_drift([moved], labels, sbert, 0)
    assert alone == pytest.approx(sbert.drift("A dog.", "A bus.", ["bus", "dog"])) and alone > 0
    assert mean_drift([still, moved], labels, sbert, 0) == pytest.approx(alone / 2)
    assert mean_drift([], labels, sbert, 0) == 0
